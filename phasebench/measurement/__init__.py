"""The instrumented forward pass, and the curves that it gives."""
