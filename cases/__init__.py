"""The cases: one file a finding, one for drift, one for latency."""
