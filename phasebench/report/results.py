"""The results of a run: its entries by model and dataset, and the results file that is made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phasebench.report.entries import DriftEntry, Entry, FindingEntry, MeasurementEntry, reported

SCHEMA = 1
"""Of the results file; raised when a key is removed, renamed or means something else."""
Kind = TypeVar("Kind", bound=Entry)


@dataclass(frozen=True)
class Failure:
    """A failed case: its id, its message and what it reported."""

    case: str
    message: str
    entries: Sequence[Entry] = ()

    @property
    def first_line(self) -> str:
        """The message's first line that is not empty."""
        return next((line for line in self.message.splitlines() if line.strip()), "failed")


@dataclass(frozen=True)
class Results:
    """All that a run reports.

    Attributes:
        by_run: ``<model>/<dataset>`` -> the entries of its cases.
        failures: the cases that failed.
    """

    by_run: Mapping[str, Sequence[Entry]]
    failures: Sequence[Failure] = field(default=())

    @classmethod
    def of(cls, entries: Iterable[Entry], failures: Sequence[Failure] = ()) -> Results:
        """Sort entries by what they are about."""
        by_run: dict[str, list[Entry]] = {}
        for entry in entries:
            by_run.setdefault(entry.run, []).append(entry)
        return cls(dict(sorted(by_run.items())), failures)

    @property
    def run_ids(self) -> list[str]:
        """``<model>/<dataset>`` of everything that reported."""
        return list(self.by_run)

    def entries(self, run_id: str, kind: type[Kind]) -> list[Kind]:
        """The entries of one kind, in the order in which they came."""
        return [entry for entry in self.by_run[run_id] if isinstance(entry, kind)]

    def measurement(self, run_id: str) -> MeasurementEntry | None:
        """The measurement, if it was finished."""
        return next(iter(self.entries(run_id, MeasurementEntry)), None)

    def findings(self, run_id: str) -> list[FindingEntry]:
        """The verdicts, in the order of tables: the paper's findings first."""
        return sorted(self.entries(run_id, FindingEntry), key=lambda entry: entry.order)

    def drift(self, run_id: str) -> list[DriftEntry]:
        """The compared curves, worst first."""
        return sorted(self.entries(run_id, DriftEntry), key=lambda entry: entry.badness, reverse=True)

    def measurements(self) -> dict[str, MeasurementEntry]:
        """The finished measurements by ``<model>/<dataset>``."""
        found = {run_id: self.measurement(run_id) for run_id in self.run_ids}
        return {run_id: entry for run_id, entry in found.items() if entry is not None}

    def as_dict(self) -> dict[str, Any]:
        """The results file: ``{"schema": 1, "runs": [...]}``, one run per model and dataset."""
        return {"schema": SCHEMA, "runs": [self._run(run_id) for run_id in self.run_ids]}

    def _run(self, run_id: str) -> dict[str, Any]:
        model, _, dataset = run_id.partition("/")
        measured = self.measurement(run_id)
        return {
            "model": model,
            "dataset": dataset,
            **(reported(measured) if measured else {}),
            "findings": {entry.id: reported(entry, "id") for entry in self.entries(run_id, FindingEntry)},
            "drift": {entry.curve: _drift(entry) for entry in self.entries(run_id, DriftEntry)},
        }


def _drift(entry: DriftEntry) -> dict[str, Any]:
    """Without a baseline's curve, or why it was left, where there is none."""
    empty = [name for name in ("baseline", "left") if not getattr(entry, name)]
    return reported(entry, "curve", *empty)


def short(value: float | None) -> str:
    """A number as tables show it; - where there is none."""
    return "-" if value is None else f"{value:.3g}"
