"""The results of a run: its entries by model and dataset, and the content of the results file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phasebench.report.entries import (
    BaselineEntry,
    DriftEntry,
    Entry,
    FindingEntry,
    MeasurementEntry,
)
from phasebench.report.entry_forms import reported

SCHEMA = 1
"""Version of the results file, raised when a key is removed, renamed or gets another meaning."""
LEFT_OUT_OF_DRIFT = ("baseline", "by_layer", "left")
"""Keys of a drift that are left out of the results file if they are empty."""
Kind = TypeVar("Kind", bound=Entry)


RECORDING = {
    "model": "baseline",
    "folder": "baseline_folder",
    "checkpoint": "baseline_checkpoint",
    "prompt": "baseline_prompt",
}
"""Key of ``compared_with`` in the results file -> field of ``BaselineEntry``, alike in one recording."""


@dataclass(frozen=True)
class Failure:
    """A failed case.

    Attributes:
        case: its id.
        message: its failure message.
        entries: the entries that it reported.
    """

    case: str
    message: str
    entries: Sequence[Entry] = ()

    @property
    def first_line(self) -> str:
        """The first line of the message that is not empty."""
        return next((line for line in self.message.splitlines() if line.strip()), "failed")


@dataclass(frozen=True)
class Results:
    """All entries and failures of a run.

    Attributes:
        by_run: ``<model>/<dataset>`` -> the entries of its cases.
        failures: the cases that failed.
        interrupted: what is kept of an interrupted run, in words; empty if the run was not interrupted.
    """

    by_run: Mapping[str, Sequence[Entry]]
    failures: Sequence[Failure] = field(default=())
    interrupted: str = ""

    @classmethod
    def of(cls, entries: Iterable[Entry], failures: Sequence[Failure] = (), interrupted: str = "") -> Results:
        """Group entries by their model and dataset."""
        by_run: dict[str, list[Entry]] = {}
        for entry in entries:
            by_run.setdefault(entry.run, []).append(entry)
        return cls(dict(sorted(by_run.items())), failures, interrupted)

    @property
    def run_ids(self) -> list[str]:
        """``<model>/<dataset>`` of all entries, sorted."""
        return list(self.by_run)

    def entries(self, run_id: str, kind: type[Kind]) -> list[Kind]:
        """The entries of one kind, in the order in which the cases reported them."""
        return [entry for entry in self.by_run[run_id] if isinstance(entry, kind)]

    def measurement(self, run_id: str) -> MeasurementEntry | None:
        """The measurement, if it was finished."""
        return next(iter(self.entries(run_id, MeasurementEntry)), None)

    def findings(self, run_id: str) -> list[FindingEntry]:
        """The findings' entries in the order of tables: the paper's findings first."""
        return sorted(self.entries(run_id, FindingEntry), key=lambda entry: entry.order)

    def drift(self, run_id: str) -> list[DriftEntry]:
        """The entries of the compared curves, worst first."""
        return sorted(self.entries(run_id, DriftEntry), key=lambda entry: entry.badness, reverse=True)

    def baselines(self, run_id: str) -> list[list[BaselineEntry]]:
        """The baselines that the run was compared with, in groups of one recording in one folder."""
        entries = [entry for entry in self.entries(run_id, BaselineEntry) if entry.baseline_folder]
        return grouped(entries, RECORDING.values())

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
            "compared_with": [
                {
                    **{key: getattr(group[0], name) for key, name in RECORDING.items()},
                    "names": [entry.name for entry in group],
                }
                for group in self.baselines(run_id)
            ],
            "written": {
                entry.name: entry.written for entry in self.entries(run_id, BaselineEntry) if entry.written
            },
        }


def grouped(entries: Iterable[BaselineEntry], fields: Iterable[str]) -> list[list[BaselineEntry]]:
    """The entries in groups that agree in ``fields``."""
    groups: dict[Any, list[BaselineEntry]] = {}
    names = tuple(fields)
    for entry in entries:
        groups.setdefault(tuple(getattr(entry, name) for name in names), []).append(entry)
    return list(groups.values())


def _drift(entry: DriftEntry) -> dict[str, Any]:
    """A drift in the form of the results file, without the keys that are left out if they are empty."""
    empty = [name for name in LEFT_OUT_OF_DRIFT if not getattr(entry, name)]
    return reported(entry, "curve", *empty)


def short(value: float | None) -> str:
    """A number with three digits, as in tables; ``-`` for None."""
    return "-" if value is None else f"{value:.3g}"
