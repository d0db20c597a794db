"""The one exception that a user's input can cause."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A model, dataset, file or setting that cannot be used as given.

    The message gives the reason and names the file or the value. It mentions no option of a command line: a
    notebook has none. Where a setting would help, ``remedy`` names it, and ``settings.with_option`` adds what
    the option is called.

    Attributes:
        remedy: a key of ``settings.REMEDIES``; empty if no setting helps.
    """

    def __init__(self, reason: str, *, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def did_you_mean(given: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean NAME?`` with the nearest known name behind ``prefix``; empty where none is near."""
    near = get_close_matches(given, list(known), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


OF_TRANSFORMERS = (
    OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, RuntimeError,
)  # fmt: skip
"""What transformers raises at a checkpoint that is not what it should be."""
