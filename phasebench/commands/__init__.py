"""``python -m phasebench``: one module a command."""
