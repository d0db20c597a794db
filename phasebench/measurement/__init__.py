"""The instrumented forward pass, and what is read off it."""
