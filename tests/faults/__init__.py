"""Breakages of checkpoints and pipelines: ``python -m tests.faults`` writes ``docs/faults.md``."""
