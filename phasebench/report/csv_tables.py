"""The numbers of a run as CSV, one table for each kind, with every number as in the results file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from phasebench.report.dataframes import COLUMNS

Row = Sequence[Any]
CURVES = ("model", "dataset", "source", "curve", "layer", "mean", "se", "n")
FINDINGS = (
    "model", "dataset", "finding", "control", "verdict", "value", "difference", "low", "high",
    "differs", "margin", "images_needed", "recorded", "line", "detail",
)  # fmt: skip
PHASES = ("model", "dataset", "ends", "begins", "layer", "low", "high")
DRIFT = ("model", "dataset", *COLUMNS["drift"])


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Name of a table -> its CSV text; ``results`` is the content of the results file."""
    runs = results["runs"]
    return {
        "curves": _text(CURVES, (row for run in runs for row in _curves(run))),
        "findings": _text(FINDINGS, (row for run in runs for row in _findings(run))),
        "phases": _text(PHASES, (row for run in runs for row in _phases(run))),
        "drift": _text(DRIFT, (row for run in runs for row in _drift(run))),
        "attention": _attention_text(runs),
    }


def _text(header: Row, rows: Iterable[Row]) -> str:
    """A table as CSV text: floats as ``repr`` writes them, as in JSON; None as an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _names(run: Mapping[str, Any]) -> tuple[str, str]:
    return run["model"], run["dataset"]


def _curves(run: Mapping[str, Any]) -> Iterator[Row]:
    sources = {"measured": run.get("curves", {})}
    sources |= {f"control {name}": curves for name, curves in run.get("controls", {}).items()}
    drift = run["drift"].items()
    sources["baseline"] = {name: entry["baseline"] for name, entry in drift if "baseline" in entry}
    for source, curves in sources.items():
        for name, table in curves.items():
            columns = (table[key] for key in ("layer", "mean", "se", "n"))
            for values in zip(*columns, strict=True):
                yield *_names(run), source, name, *values


def _findings(run: Mapping[str, Any]) -> Iterator[Row]:
    for name, entry in run["findings"].items():
        yield (
            *_names(run), name, "", entry["verdict"], entry["value"], None, entry["low"], entry["high"], None,
            entry["margin"], entry["images_needed"], entry["recorded"], entry["line"],
            entry["detail"],
        )  # fmt: skip
        for row in entry["controls"]:
            numbers = (row[key] for key in ("value", "difference", "low", "high", "differs"))
            texts = (None, None, None, row["quantity"], row["note"])
            yield *_names(run), name, row["control"], "", *numbers, *texts


def _phases(run: Mapping[str, Any]) -> Iterator[Row]:
    for entry in run["findings"].values():
        if phases := entry.get("phases"):
            pattern = phases["pattern"]
            columns = (phases[key] for key in ("layers", "low", "high"))
            for ends, begins, *numbers in zip(pattern[:-1], pattern[1:], *columns, strict=True):
                yield *_names(run), ends, begins, *numbers


def _drift(run: Mapping[str, Any]) -> Iterator[Row]:
    for name, entry in run["drift"].items():
        yield *_names(run), name, *(entry.get(key) for key in DRIFT[3:])


def _attention_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Norms by layer, one column per position; ``image`` is empty for the mean over images."""
    rows = [row for run in runs for row in _attention(run)]
    widest = max((len(row) for row in rows), default=4)
    head = ("model", "dataset", "image", "layer", *range(widest - 4))
    return _text(head, ([cell for cell, _ in zip_longest(row, head)] for row in rows))


def _attention(run: Mapping[str, Any]) -> Iterator[Row]:
    for image, rows in {"": run.get("heatmap"), **run.get("heatmaps", {})}.items():
        for layer, row in enumerate(rows or (), start=1):
            yield *_names(run), image, layer, *row
