"""The words and states of verdicts and drift in the HTML report, and its lists of failures and changes.

The state ``failed`` is red and belongs to failed cases only: a claim that does not hold, as recorded, is a
result like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from phasebench.report.entries import DriftEntry, FindingEntry
from phasebench.report.results import Results, short

State = Literal["failed", "changed", "good", "plain"]
MARKS = {"failed": "✗", "changed": "→", "good": "✓", "plain": "·"}
"""Signs that show the state also without colours."""


@dataclass(frozen=True)
class Status:
    """A verdict or the drift of a curve, in words, and its state."""

    text: str
    state: State

    @property
    def mark(self) -> str:
        """The sign of the state."""
        return MARKS[self.state]


@dataclass(frozen=True)
class OtherFailure:
    """A message of cases that failed for another reason than a verdict or a drift, and their names."""

    message: str
    cases: list[str]


def finding_status(entry: FindingEntry) -> Status:
    """The verdict, and how it relates to the recorded one."""
    recorded = {None: "nothing is recorded", "": "the recorded verdict cannot be read"}
    before = recorded.get(entry.recorded, f"recorded: {entry.recorded}")
    if entry.failed:
        text = entry.verdict if entry.recorded == entry.verdict else f"{entry.verdict}; {before}"
        return Status(text, "failed")
    if entry.recorded and entry.recorded != entry.verdict:
        return Status(f"{entry.verdict}; {before}", "changed")
    if entry.verdict == "holds":
        return Status("holds", "good")
    return Status(
        f"{entry.verdict}, as recorded" if entry.recorded else f"{entry.verdict}; {before}", "plain"
    )


def drift_status(entry: DriftEntry) -> Status:
    """Whether the curve differs from its baseline."""
    if entry.failed:
        return Status("differs", "failed")
    if entry.updated:
        return Status("baseline written", "changed")
    if entry.measured is None:
        return Status("not measured", "plain")
    return Status("within tolerance" if entry.shared else "within sampling error", "good")


def drift_summary(entries: list[DriftEntry]) -> Status:
    """The drift of all compared curves of a model and dataset."""
    failed, written = ([e for e in entries if getattr(e, name)] for name in ("failed", "updated"))
    if not entries:
        return Status("not compared", "plain")
    if failed:
        return Status(f"{len(failed)} of {len(entries)} curves differ", "failed")
    if written:
        return Status(f"{len(written)} of {len(entries)} baselines written", "changed")
    return Status(f"none in {len(entries)} curves", "good")


def other_failures(results: Results) -> list[OtherFailure]:
    """Failures without a failed verdict or curve, such as a model that cannot be loaded, by message."""
    cases: dict[str, list[str]] = {}
    for failure in results.failures:
        if not any(isinstance(e, FindingEntry | DriftEntry) and e.failed for e in failure.entries):
            cases.setdefault(failure.message, []).append(failure.case)
    return [OtherFailure(message, names) for message, names in cases.items()]


def changes(results: Results, run_id: str) -> Iterator[str]:
    """What the run changed or accepted as changed, in lines: verdicts, and baselines of curves."""
    for entry in results.findings(run_id):
        if finding_status(entry).state == "changed":
            yield f"{entry.id}: {entry.recorded} → {entry.verdict} ({short(entry.value)})"
    drift = results.drift(run_id)
    if written := [entry.curve for entry in drift if entry.updated]:
        yield f"baselines written: {', '.join(written)}"
    for reason in dict.fromkeys(entry.left for entry in drift if entry.left):
        yield f"no baseline written: {reason}"
