"""The training of the bundled models from scratch: ``python -m tests.recipes NAME``."""
