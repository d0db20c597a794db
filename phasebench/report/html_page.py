"""The HTML report: one file that opens offline, with failures first, then changes, then the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from phasebench.report import csv_tables, figures, html_verdicts, plotly_figures
from phasebench.report.compared import two_sides
from phasebench.report.entries import DriftEntry, FindingEntry, MeasurementEntry, Number
from phasebench.report.figure_model import Figure
from phasebench.report.html_examples import examples
from phasebench.report.results import Results, short

WITH_EXAMPLES = ("figure-1", "figure-5")
"""Figures that stand above the example images, so that the slider's layer is seen in all of them."""
DRAWN_DIFFERENCES = 4
"""The number of curves with drift whose difference from the baseline is drawn at once, the worst first."""


def page(results: Results) -> str:
    """The report as HTML."""
    runs = [_run(results, run_id) for run_id in results.run_ids]
    runs.sort(key=lambda run: not (run["failed"] or run["drifted"]))
    compared = [
        {"dataset": dataset, "figures": [_figure(f"models/{dataset}", figure) for figure in drawn]}
        for dataset, drawn in figures.model_comparisons(results)
    ]
    shown = [figure for group in (*runs, *compared) for figure in group["figures"]]
    shown += [figure for run in runs for figure in run["differences"]]
    data = {
        "figures": {figure["key"]: figure["plot"] for figure in shown},
        "examples": {example["key"]: example["data"] for run in runs for example in run["examples"]},
        "csv": csv_tables.tables(results.as_dict()),
    }
    html: str = _template().render(
        runs=runs,
        compared=compared,
        findings=_findings(results),
        other_failures=html_verdicts.other_failures(results),
        interrupted=results.interrupted,
        written=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        data=Markup(embedded(data)),  # noqa: S704 (escaped for a script element)
        csv=list(data["csv"]),
        library=Markup(plotly_figures.library()),  # noqa: S704
    )
    return html


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _template() -> Any:
    loader = PackageLoader("phasebench.report", package_path="")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "short": short,
        "finding_status": html_verdicts.finding_status,
        "drift_status": html_verdicts.drift_status,
    }
    return environment.get_template("template.html")


def _findings(results: Results) -> dict[str, FindingEntry]:
    """Every finding of the run by id, the paper's first; claim and source do not depend on the model."""
    entries = (entry for run_id in results.run_ids for entry in results.findings(run_id))
    return {entry.id: entry for entry in sorted(entries, key=lambda entry: (entry.order, entry.id))}


def _run(results: Results, run_id: str) -> dict[str, Any]:
    """The template's data of a model and dataset."""
    measured, drift, verdicts = results.measurement(run_id), results.drift(run_id), results.findings(run_id)
    return {
        "name": run_id,
        "anchor": _anchor(run_id),
        "measured": measured,
        "last": 0 if measured is None else figures.last_layer(measured),
        "findings": {entry.id: entry for entry in verdicts},
        "failed": [entry for entry in verdicts if entry.failed],
        "drift": drift,
        "drift_summary": html_verdicts.drift_summary(drift),
        "drifted": [entry for entry in drift if entry.failed],
        "causes": list(dict.fromkeys(entry.cause for entry in drift if entry.failed and entry.cause)),
        "changes": list(html_verdicts.changes(results, run_id)),
        "differences": list(_differences(results, run_id)),
        "figures": [_figure(run_id, figure) for figure in figures.run_figures(results, run_id)],
        "examples": [] if measured is None else list(examples(run_id, measured)),
        "about": [] if measured is None else [*two_sides(results, run_id), *_about(measured)],
    }


def _differences(results: Results, run_id: str) -> Iterator[dict[str, Any]]:
    """The figures of differences from baselines; ``shown``: drawn at once, other figures on demand."""
    for number, (entry, figure) in enumerate(figures.differences(results, run_id)):
        yield {
            **_figure(run_id, figure),
            "curve": entry.curve,
            "shown": entry.failed and number < DRAWN_DIFFERENCES,
            "names": ["measured minus baseline", "allowed"],
            "rows": _difference_rows(entry),
        }


def _difference_rows(entry: DriftEntry) -> list[tuple[int, tuple[Number, Number]]]:
    """The rows ``(layer, (difference, allowed))`` of the table below a figure of a difference."""
    if entry.by_layer is None:
        return []
    numbers = zip(entry.by_layer["difference"], entry.by_layer["allowed"], strict=True)
    return list(zip(entry.by_layer["layer"], numbers, strict=True))


def _anchor(name: str) -> str:
    """A name as an HTML id: attributes that list ids separate them by spaces."""
    return "_".join(name.split())


def _figure(run_id: str, figure: Figure) -> dict[str, Any]:
    """The template's data of a figure: the plot, and its numbers as a table for readers who cannot see it."""
    xs = sorted({x for line in figure.lines for x in line.x})
    columns = [dict(zip(line.x, line.y, strict=True)) for line in figure.lines]
    return {
        "key": _anchor(f"{run_id}/{figure.id}"),
        "id": figure.id,
        "title": figure.title,
        "paper": figure.paper,
        "first": figure.id in WITH_EXAMPLES,
        "caption": figure.caption,
        "axis": "depth" if figure.last is None else "layer",
        "names": [line.name for line in figure.lines],
        "rows": [(x, [column.get(x) for column in columns]) for x in xs],
        "plot": plotly_figures.plot(figure),
    }


def _about(measured: MeasurementEntry) -> list[tuple[str, str]]:
    """Provenance, self-test, timing, skipped images and notes as rows (label, text)."""
    rows = {key: _plain(value) for key, value in measured.provenance.items()}
    rows["self-test"] = _plain({k: v for k, v in measured.selftest.items() if v not in (None, {})})
    rows["seconds"] = _plain({k: f"{v:.3g}" for k, v in measured.timing.items() if isinstance(v, float)})
    rows["from the store"] = f"{measured.stored} images"
    rows["skipped"] = "; ".join(f"{skip['path']}: {skip['reason']}" for skip in measured.skipped)
    rows["broken"] = "; ".join(f"{image}: {where}" for image, where in measured.broken.items())
    rows["notes"] = "; ".join(measured.notes)
    return [(key, value) for key, value in rows.items() if value]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
