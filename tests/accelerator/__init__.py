"""A pretended accelerator, and what a pass costs on it."""
