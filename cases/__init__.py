"""The cases: one file for each finding, one for drift, one for latency."""
