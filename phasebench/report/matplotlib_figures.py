"""Figures for a paper, drawn by matplotlib: each as PNG and PDF."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from phasebench.files import write_whole
from phasebench.report import figures
from phasebench.report.figure_model import SOLID, Figure, Heat, Line
from phasebench.report.results import Results

PALETTE = ("#0067a5", "#c24a00", "#00795a", "#9c2f86", "#6a5300", "#3c3cc4", "#5d646e", "#b0203a")
MARKERS = "osD^x*+p"
STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
SETTINGS: Any = {"pdf.fonttype": 42, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
"""Type 42 fonts (TrueType), because publishers require embedded fonts."""
FORMATS: dict[str, Any] = {"png": {"dpi": 200}, "pdf": {"metadata": {"CreationDate": None}}}
SIZE = (4.2, 3.1)
"""Width and height in inches; a column of a paper is a little over three inches wide."""


def write(folder: Path, results: Results) -> int:
    """Write ``<model>/<dataset>/<figure>.png`` and ``.pdf`` below ``folder``; the number of figures."""
    count = 0
    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter of a name that the font lacks must not end the run
        for name, figure in _all(results):
            path, canvas = folder / name / figure.id, draw(figure)
            for suffix, options in FORMATS.items():
                content = io.BytesIO()
                canvas.savefig(content, format=suffix, **options)
                write_whole(path.with_name(f"{path.name}.{suffix}"), content.getvalue())
            count += 1
    return count


def _all(results: Results) -> Iterator[tuple[str, Figure]]:
    """Each figure with its folder, relative to the folder of all figures."""
    for run_id in results.run_ids:
        for figure in figures.run_figures(results, run_id):
            yield "/".join(map(_file_name, run_id.split("/", 1))), figure
    for dataset, compared in figures.model_comparisons(results):
        for figure in compared:
            yield f"by-model/{_file_name(dataset)}", figure


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.@+-]", "_", name)


def draw(figure: Figure) -> Canvas:
    """Draw one figure on a canvas of matplotlib."""
    canvas = Canvas(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    if figure.heat is not None:
        _heatmap(canvas, axes, figure.heat)
    for line in figure.lines:
        if not line.hidden:
            _line(axes, line, log=figure.log)
    _name_axes(axes, figure)
    _mark(axes, figure)
    if figure.lines:
        canvas.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    axes.set_title(figure.title, fontsize=8, pad=16 if figure.spans or figure.heat else 6)
    return canvas


def _line(axes: Any, line: Line, *, log: bool) -> None:
    colour = PALETTE[line.colour % len(PALETTE)]
    marker = MARKERS[line.colour % len(MARKERS)] if line.dash == SOLID else None
    y = [np.nan if value is None else value for value in line.y]
    style = {"color": colour, "linestyle": STYLES[line.dash], "linewidth": 1.2}
    axes.plot(line.x, y, label=line.name, marker=marker, markersize=3, **style)
    if line.band and not log:
        x, low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _heatmap(canvas: Canvas, axes: Any, heat: Heat) -> None:
    """Draw a heatmap as in the paper: a darker cell has a larger norm."""
    rows = np.array([[value or np.nan for value in row] for row in heat.rows], dtype=np.float64)
    columns, layers = np.arange(rows.shape[1] + 1) - 0.5, np.arange(rows.shape[0] + 1) + 0.5
    norm = LogNorm(np.nanmin(rows), np.nanmax(rows))
    mesh = axes.pcolormesh(
        columns, layers, rows, norm=norm, cmap=colormaps["cividis_r"], rasterized=True, linewidth=0
    )
    canvas.colorbar(mesh, ax=axes, label="norm")
    for start, end in heat.visual:
        _bracket(axes, start, end, "image tokens")


def _bracket(axes: Any, start: int, end: int, text: str) -> None:
    above = axes.get_xaxis_transform()
    axes.plot([start - 0.4, end - 0.6], [1.02, 1.02], color="grey", lw=2, transform=above, clip_on=False)
    axes.text((start + end - 1) / 2, 1.03, text, ha="center", va="bottom", fontsize=7, transform=above)


def _name_axes(axes: Any, figure: Figure) -> None:
    axes.set_ylabel(figure.label)
    if figure.log:
        axes.set_yscale("log")
    if figure.heat is not None:
        axes.set_xlabel("position in the prompt")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    elif figure.last is None:
        axes.set_xlabel("relative depth (layer / last layer)")
    else:
        axes.set_xlabel(f"layer (of {figure.last}), below it the relative depth")
        last = figure.last or 1
        axes.set_xticks(figure.ticks, [f"{layer}\n{layer / last:.2f}" for layer in figure.ticks])


def _mark(axes: Any, figure: Figure) -> None:
    for boundary in figure.boundaries:
        axes.axvline(boundary.layer, color="grey", linestyle="--", linewidth=0.8)
        if boundary.low is not None and boundary.high is not None:
            axes.axvspan(boundary.low - 0.25, boundary.high + 0.25, color="grey", alpha=0.18, linewidth=0)
    above = axes.get_xaxis_transform()
    for name, start, end in figure.spans:
        axes.text((start + end) / 2, 1.01, name, ha="center", va="bottom", fontsize=7, transform=above)
