"""``InputError``, the exception for all unusable input."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A model, dataset, file or setting that cannot be used as given.

    The message gives the reason and names the file or the value. It mentions no option of the command line,
    because users of a notebook have none. If a setting would help, ``remedy`` names it, and
    ``settings.with_option`` adds the option to the message.

    Attributes:
        remedy: a key of ``settings.REMEDIES``; empty if no setting helps.
    """

    def __init__(self, reason: str, *, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class RefusedError(InputError):
    """Images that a processor or a model refuses, though it accepts others."""


def one_line(error: BaseException, limit: int = 400) -> str:
    """An exception's message without line breaks, cut after ``limit`` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def did_you_mean(given: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean NAME?`` with the nearest known name after ``prefix``; empty if none is near."""
    near = get_close_matches(given, list(known), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


TRANSFORMERS_ERRORS = (
    OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, RuntimeError,
)  # fmt: skip
"""The exceptions that transformers raises for an unsuitable checkpoint."""
