"""How the bundled models were trained, from nothing: ``python -m phasebench.models.recipes NAME``."""
