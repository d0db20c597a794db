"""The models that come with phasebench: two small trained ones, and tiny random ones for tests."""
