"""phasebench: what happens inside a vision large language model, and whether that changed."""

__version__ = "0.1.0"
