"""What measuring costs: ``python -m tests.perf`` writes ``docs/performance.md``."""
