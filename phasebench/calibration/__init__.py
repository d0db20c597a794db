"""Calibrating what numerical noise may do to a curve: ``python -m phasebench calibrate``."""
