"""The version of phasebench, which the packaging reads here."""

__version__ = "0.1.0"
