"""Failed cases as GitHub's workflow commands: lines that a pull request shows as errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phasebench.report.results import Entry, badness

MAX_ANNOTATIONS = 10
"""GitHub shows no more errors of a step."""


@dataclass(frozen=True)
class Failure:
    """A failed case: its id, its message and what it attached."""

    case: str
    message: str
    entries: Sequence[Entry] = ()

    @property
    def first(self) -> str:
        """The message's first line."""
        return next((line for line in self.message.splitlines() if line.strip()), "failed")

    @property
    def urgency(self) -> tuple[int, float]:
        """What cannot be measured, then changed verdicts, then curves, those that drifted most first."""
        drift = [badness(entry) for entry in self.entries if entry["kind"] == "drift"]
        judged = any(entry["kind"] in ("finding", "own") for entry in self.entries)
        return (2, -max(drift)) if drift else (1 if judged else 0, 0.0)


def errors(failures: Sequence[Failure]) -> Iterator[str]:
    """``::error`` lines, worst first; the last one says how many are left out."""
    ordered = sorted(failures, key=lambda failure: failure.urgency)
    shown = ordered if len(ordered) <= MAX_ANNOTATIONS else ordered[: MAX_ANNOTATIONS - 1]
    for failure in shown:
        yield f"::error title={_property(failure.case)}::{_data(failure.first)}"
    if len(shown) < len(ordered):
        yield f"::error title=phasebench::{len(ordered) - len(shown)} more cases failed"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
