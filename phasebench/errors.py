"""The one exception that a user's input can cause; its message names the option or file and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A model, dataset, file or option that cannot be used as given."""


def meant(given: str, known: Iterable[str], before: str = "") -> str:
    """``; did you mean NAME?`` of the nearest known name, with ``before`` it; empty where none is near."""
    near = get_close_matches(given, list(known), 1)
    return f"; did you mean {before}{near[0]}?" if near else ""


OF_TRANSFORMERS = (
    OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, RuntimeError,
)  # fmt: skip
"""What transformers raises at a checkpoint that is not what it should be."""
