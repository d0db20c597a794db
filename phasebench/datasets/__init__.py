"""Images with captions: readers of file layouts, the named datasets, the bundled datasets."""
