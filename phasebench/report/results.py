"""The results of a run as plain data: what ``--results`` writes and every table is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from phasebench.catalog import CURVES
from phasebench.curves import Array, Curves
from phasebench.judge.statistics import plain

if TYPE_CHECKING:
    from phasebench.measurement.accumulate import Example
    from phasebench.measurement.measure import Measurement

SCHEMA = 1
Entry = dict[str, Any]


def measurement_entry(measured: Measurement, skipped: Sequence[Mapping[str, str]] = ()) -> Entry:
    """A measurement as plain data: curves, controls, timing, heatmap, layout, self-test, provenance, images.

    ``skipped`` are the dataset's images that were set aside: ``id``, ``path`` and ``reason`` of each.
    """
    return {
        "kind": "measurement",
        "curves": {name: curve_table(measured.curves, name) for name in CURVES},
        "controls": {
            control: {name: curve_table(curves, name) for name in curves.names}
            for control, curves in measured.controls.items()
        },
        "timing": timing(measured.seconds, measured.paired_seconds),
        "heatmap": None if measured.heatmap is None else _heatmap(measured.heatmap),
        "heatmaps": {name: _heatmap(example.norms) for name, example in measured.examples.items()},
        "words": {name: example.words for name, example in measured.examples.items()},
        "pictures": {name: _picture(example) for name, example in measured.examples.items()},
        "patches": measured.patches,
        "layout": measured.curves.provenance["layout"],
        "selftest": measured.selftest.as_dict(),
        "broken": dict(measured.broken),
        "provenance": dict(measured.curves.provenance),
        "images": list(measured.curves.items),
        "stored": measured.stored,
        "notes": list(measured.notes),
        "skipped": [dict(skip) for skip in skipped],
    }


def _picture(example: Example) -> Entry:
    """Where the image lies, what is said of it, and which words of that count."""
    sample = example.sample
    return {
        "path": str(sample.path),
        "captions": list(sample.captions),
        "references": sorted(example.references),
    }


def _heatmap(norms: Array) -> list[list[float | None]]:
    """Norm-based attention of the last text token, layers 1..L by positions; to six digits."""
    return [[plain(float(value), 6) for value in row] for row in norms]


def curve_table(curves: Curves, name: str) -> dict[str, list[float | None]]:
    """One curve by columns: layer, mean, se, n."""
    table = curves.summary(name)
    return {
        "layer": [int(layer) for layer in table.index],
        **{key: [_known(value) for value in table[key]] for key in ("mean", "se")},
        "n": [int(value) for value in table["n"]],
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def short(value: float | None) -> str:
    """A number as tables show it; - where there is none."""
    return "-" if value is None else f"{value:.3g}"


def badness(drift: Entry) -> float:
    """What drift entries are sorted by: without a measure of it (other lengths, no file) above all."""
    return float("inf") if drift["excess"] is None else float(drift["excess"])


def timing(seconds: Sequence[float], pairs: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    """Seconds per image: mean of the pass, mean of the plain forward, and their ratio on the same images.

    The plain forward is timed on a few images only, in ``pairs`` with their pass; the ratio leaves out the
    first of these, which warms up. All None where every image came from the store.
    """
    if not seconds:
        return dict.fromkeys(("pass", "plain", "ratio", "total"))
    warm = pairs[1:]
    ratio = fmean(a for a, _ in warm) / fmean(b for _, b in warm) if warm else None
    return {
        "pass": fmean(seconds),
        "plain": fmean(b for _, b in pairs) if pairs else None,
        "ratio": ratio,
        "total": sum(seconds),
    }


@dataclass(frozen=True)
class Results:
    """The entries of all runs, by ``<model>/<dataset>``: a run is one model on one dataset."""

    by_run: dict[str, list[Entry]]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Results:
        """Sort the entries that the reports brought."""
        by_run: dict[str, list[Entry]] = {}
        for entry in entries:
            by_run.setdefault(entry["run"], []).append(entry)
        return cls(dict(sorted(by_run.items())))

    @property
    def run_ids(self) -> list[str]:
        """``<model>/<dataset>`` of everything measured."""
        return list(self.by_run)

    def of_kind(self, run_id: str, kind: str) -> list[Entry]:
        """The entries of one kind."""
        return [entry for entry in self.by_run[run_id] if entry["kind"] == kind]

    def measurement(self, run_id: str) -> Entry | None:
        """The measurement of a run, if it came to one."""
        found = self.of_kind(run_id, "measurement")
        return found[0] if found else None

    def as_dict(self) -> dict[str, Any]:
        """The results file: ``{"schema": 1, "runs": [...]}``, one run per model and dataset."""
        return {"schema": SCHEMA, "runs": [self._run(run_id) for run_id in self.run_ids]}

    def _run(self, run_id: str) -> dict[str, Any]:
        model, _, dataset = run_id.partition("/")
        hidden = ("kind", "run", "passed")
        measured = self.measurement(run_id) or {}
        return {
            "model": model,
            "dataset": dataset,
            **{key: value for key, value in measured.items() if key not in hidden},
            "findings": {
                entry["id"]: {key: value for key, value in entry.items() if key not in (*hidden, "id")}
                for entry in self.of_kind(run_id, "finding")
            },
            "drift": {
                entry["curve"]: {key: value for key, value in entry.items() if key not in (*hidden, "curve")}
                for entry in self.of_kind(run_id, "drift")
            },
        }
