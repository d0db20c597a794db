"""The HTML report: one file that shows a run and opens offline."""

from __future__ import annotations

import base64
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from phasebench.datasets.pixels import open_rgb
from phasebench.errors import InputError
from phasebench.report import csv_tables, figures, plotly_figures
from phasebench.report.compared import two_sides
from phasebench.report.entries import FindingEntry, MeasurementEntry
from phasebench.report.figure_model import Figure
from phasebench.report.results import Results, short

SIDE = 448
"""Length in pixels of the longer side of an example picture in the report."""
MARKS = {"holds": "✓", "does not hold": "✗", "undecided": "?"}


def page(results: Results) -> str:
    """The report as HTML."""
    runs = [_run(results, run_id) for run_id in results.run_ids]
    compared = [
        {"dataset": dataset, "figures": [_figure(f"models/{dataset}", figure) for figure in drawn]}
        for dataset, drawn in figures.model_comparisons(results)
    ]
    shown = [figure for group in (*runs, *compared) for figure in group["figures"]]
    data = {
        "figures": {figure["key"]: figure["plot"] for figure in shown},
        "words": {f"{p['name']}/{w['id']}": w["data"] for p in runs for w in p["words"]},
        "csv": csv_tables.tables(results.as_dict()),
    }
    html: str = _template().render(
        runs=runs,
        compared=compared,
        findings=_findings(results),
        marks=MARKS,
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
    environment.filters["short"] = short
    return environment.get_template("template.html")


def _findings(results: Results) -> dict[str, FindingEntry]:
    """Every finding of the run by id, the paper's first; claim and source do not depend on the model."""
    entries = (entry for run_id in results.run_ids for entry in results.findings(run_id))
    return {entry.id: entry for entry in sorted(entries, key=lambda entry: (entry.order, entry.id))}


def _run(results: Results, run_id: str) -> dict[str, Any]:
    measured = results.measurement(run_id)
    drift = results.drift(run_id)
    return {
        "name": run_id,
        "anchor": _anchor(run_id),
        "measured": measured,
        "findings": {entry.id: entry for entry in results.findings(run_id)},
        "drift": drift,
        "written": [entry for entry in drift if entry.updated],
        "drifted": [entry for entry in drift if entry.failed],
        "figures": [_figure(run_id, figure) for figure in figures.run_figures(results, run_id)],
        "words": [] if measured is None else [_words(run_id, measured, image) for image in measured.words],
        "about": [] if measured is None else [*two_sides(results, run_id), *_about(measured)],
    }


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
        "caption": figure.caption,
        "axis": "depth" if figure.last is None else "layer",
        "names": [line.name for line in figure.lines],
        "rows": [(x, [column.get(x) for column in columns]) for x in xs],
        "plot": plotly_figures.plot(figure),
    }


def _words(run_id: str, measured: MeasurementEntry, image: str) -> dict[str, Any]:
    """The template's data of one example image: the picture, its captions, and the words by layer."""
    about, words = measured.pictures[image], measured.words[image]
    data = {"words": words, "references": about["references"], "grid": measured.patches}
    return {
        "id": image,
        "slider": _anchor(f"{run_id}/{image}/layer"),
        "captions": about["captions"],
        "picture": _picture(Path(about["path"])),
        "grid": measured.patches,
        "last": len(words) - 1,
        "data": data,
    }


def _picture(path: Path) -> str | None:
    """A small copy as a data URL; None if the file cannot be read on this machine."""
    try:
        image = open_rgb(path)
    except (InputError, OSError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


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
