"""Images with captions: the readers, the registry, the bundled sets."""
