"""Drift: a measured curve beside its recorded baseline, and what may have caused a difference."""
