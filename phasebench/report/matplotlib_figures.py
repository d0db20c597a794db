"""Figures for a paper, drawn by matplotlib: each as PNG and as PDF with real text, and without a title.

The styles are matplotlib's: what a ``matplotlibrc`` or a style sets is kept, and only settings that are still
matplotlib's defaults are replaced by ``DEFAULTS``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context, rcParams, rcParamsDefault
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
DEFAULTS: Any = {
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (3.35, 2.2),  # inches; 3.35 is the width of a column
    "font.size": 8,
    "image.cmap": "cividis_r",  # as in the paper, a darker cell has a larger norm
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # TrueType, because publishers require embedded fonts
    "savefig.dpi": 300,
}
"""Settings of matplotlib, each used if the user has not changed it."""
PAGE_WIDTH = 2.1
"""Width of a heatmap, which has a column for each position, in widths of a line figure."""
LEGEND_ROW = 0.15
"""Height of a row of the legend in inches; it is added to the default height of a figure."""
CHARACTERS = 46
"""The number of small characters that fit beside each other on the axis of a figure."""


def _formats(figure: Figure) -> dict[str, dict[str, Any]]:
    """Ending of a file -> options of ``savefig``; without a date, so that equal figures are equal files."""
    return {"png": {}, "pdf": {"metadata": {"CreationDate": None, "Title": figure.title}}}


def write(folder: Path, results: Results) -> int:
    """Write ``<model>/<dataset>/<figure>.png`` and ``.pdf`` below ``folder``; the number of figures."""
    count = 0
    with rc_context(defaults()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter of a name that the font lacks must not end the run
        for name, figure in _all(results):
            path, canvas = folder / name / figure.id, draw(figure)
            for suffix, options in _formats(figure).items():
                content = io.BytesIO()
                canvas.savefig(content, format=suffix, **options)
                write_whole(path.with_name(f"{path.name}.{suffix}"), content.getvalue())
            count += 1
    return count


def defaults() -> Any:
    """The rows of ``DEFAULTS`` whose setting the user has not changed."""
    return {key: value for key, value in DEFAULTS.items() if rcParams[key] == rcParamsDefault[key]}


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
    """Draw one figure on a canvas of matplotlib, in its current settings."""
    canvas = Canvas(layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    if figure.heat is not None:
        _heatmap(canvas, axes, figure.heat)
    for line in figure.lines:
        if not line.hidden:
            _line(axes, line, log=figure.log)
    _name_axes(axes, figure)
    _mark(axes, figure)
    rows = _legend(canvas) if figure.lines else 0
    if rcParams["figure.figsize"] == list(DEFAULTS["figure.figsize"]):
        width, height = DEFAULTS["figure.figsize"]
        wide = PAGE_WIDTH if figure.heat is not None else 1
        canvas.set_size_inches(width * wide, height + LEGEND_ROW * rows)
    return canvas


def _legend(canvas: Canvas) -> int:
    """Add the legend, in two columns if they are not wider than the figure; the number of its rows."""
    legend = canvas.legend(loc="outside lower center", ncols=2)
    names = len(legend.get_texts())
    if legend.get_window_extent().width <= canvas.bbox.width:
        return (names + 1) // 2
    legend.remove()
    canvas.legend(loc="outside lower center", ncols=1)
    return names


def _line(axes: Any, line: Line, *, log: bool) -> None:
    colours = rcParams["axes.prop_cycle"].by_key().get("color", PALETTE)
    colour = colours[line.colour % len(colours)]
    marker = MARKERS[line.colour % len(MARKERS)] if line.dash == SOLID else None
    y = [np.nan if value is None else value for value in line.y]
    axes.plot(line.x, y, label=line.name, marker=marker, color=colour, linestyle=STYLES[line.dash])
    if line.band and not log:
        x, low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _heatmap(canvas: Canvas, axes: Any, heat: Heat) -> None:
    """Draw a heatmap with a logarithmic scale of colours."""
    rows = np.array([[value or np.nan for value in row] for row in heat.rows], dtype=np.float64)
    columns, layers = np.arange(rows.shape[1] + 1) - 0.5, np.arange(rows.shape[0] + 1) + 0.5
    norm = LogNorm(np.nanmin(rows), np.nanmax(rows))
    mesh = axes.pcolormesh(columns, layers, rows, norm=norm, rasterized=True, linewidth=0)
    canvas.colorbar(mesh, ax=axes, label="norm")
    for start, end in heat.visual:
        _bracket(axes, start, end, "image tokens")


def _bracket(axes: Any, start: int, end: int, text: str) -> None:
    above = axes.get_xaxis_transform()
    axes.plot([start - 0.4, end - 0.6], [1.02, 1.02], color="grey", lw=2, transform=above, clip_on=False)
    axes.text((start + end - 1) / 2, 1.03, text, ha="center", va="bottom", size="small", transform=above)


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
    height = rcParams["font.size"]
    for name, x, row in figure.phase_labels(CHARACTERS):
        axes.annotate(
            name, (x, 1), (0, 2 + row * height), xycoords=axes.get_xaxis_transform(),
            textcoords="offset points", ha="center", va="bottom", size="small",
        )  # fmt: skip
