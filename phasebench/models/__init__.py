"""Checkpoints: named models, loading, the adapter that finds a model's parts, bundled models, converters."""
