"""The commands of ``python -m phasebench``, a module for each."""
