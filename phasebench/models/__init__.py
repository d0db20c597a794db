"""Checkpoints: the registry, loading, the one adapter, the bundled models."""
