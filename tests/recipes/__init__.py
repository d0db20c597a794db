"""How the bundled models were trained, from nothing: ``python -m tests.recipes NAME``."""
