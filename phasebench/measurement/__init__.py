"""Measuring: the self-test, the instrumented forward pass, the controls, and the store of finished rows."""
