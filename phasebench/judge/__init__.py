"""Judging curves: arithmetic on a few thousand numbers, without torch."""
