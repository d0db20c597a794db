"""Figures for the browser, drawn by plotly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from phasebench.catalog import FIRST_POSITIONS
from phasebench.report.figure_model import SOLID, Boundary, Figure, Heat, Line

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon")
ROW = 20
"""Height in pixels of a row of the legend. Each entry has its own row, because the window's width varies."""
BELOW = 84
"""Height in pixels below the axis, for its two rows of numbers and its title."""
PHASE_ROW = 17
"""Height in pixels of a row of names of phases."""
CHARACTERS = 36
"""The number of characters that fit beside each other on the axis of a figure in a narrow window."""
GREY = "rgba(128, 128, 128, 0.8)"
SHADE = "rgba(128, 128, 128, 0.18)"


def library() -> str:
    """The source of plotly.js."""
    return str(get_plotlyjs())


def plot(figure: Figure) -> dict[str, Any]:
    """``{data, layout}`` for plotly.js, without colours: the page sets them from ``meta.colour``."""
    drawing = go.Figure(layout=go.Layout(template=go.layout.Template(), **_layout(figure)))
    for trace in _traces(figure):
        drawing.add_trace(trace)
    _mark(drawing, figure)
    parts = json.loads(drawing.to_json())
    return {"data": parts["data"], "layout": parts["layout"]}


def _layout(figure: Figure) -> dict[str, Any]:
    below = BELOW + ROW * len(figure.lines)
    y = {"title": {"text": figure.label}, "automargin": True, "exponentformat": "power"}
    if figure.log:
        y |= {"type": "log", "dtick": 1}
    return {
        "xaxis": _positions_axis() if figure.heat else _x(figure),
        "yaxis": y,
        "height": 330 + below,
        "margin": {"l": 60, "r": 16, "t": _space_above(figure), "b": below},
        "legend": {
            "orientation": "v",
            "tracegroupgap": 0,
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
        },
        "hovermode": "closest",
        "meta": {"layers": "y" if figure.heat else "x" if figure.last is not None else None},
    }


def _space_above(figure: Figure) -> int:
    """Pixels above the plot, for the brackets of a heatmap or for the rows of the phases' names."""
    rows = max((row for _, _, row in figure.phase_labels(CHARACTERS)), default=0)
    return 60 if figure.heat else 36 + PHASE_ROW * rows


def _positions_axis() -> dict[str, Any]:
    return {"title": {"text": "position in the prompt"}, "automargin": True, "showgrid": False}


def _x(figure: Figure) -> dict[str, Any]:
    """The horizontal axis: layers with the relative depth below them, or the relative depth alone."""
    if figure.last is None:
        return {"title": {"text": "relative depth (layer / last layer)"}, "range": [-0.02, 1.02]}
    last = figure.last or 1
    return {
        "title": {"text": f"layer (of {figure.last}) / relative depth", "standoff": 10},
        "tickvals": figure.ticks,
        "ticktext": [f"{layer}<br>{layer / last:.2f}" for layer in figure.ticks],
        "range": [-0.02 * last, 1.02 * last],
        "zeroline": False,
    }


def _traces(figure: Figure) -> Iterator[Any]:
    if figure.heat is not None:
        yield _heatmap(figure.heat)
    for line in figure.lines:
        if line.band and not figure.log:
            yield _band(line)
        yield _line(line, figure.last)


def _band(line: Line) -> Any:
    there, back = line.band, line.band[::-1]
    return go.Scatter(
        x=[x for x, _, _ in (*there, *back)],
        y=[*(low for _, low, _ in there), *(high for _, _, high in back)],
        fill="toself",
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=line.name,
        visible="legendonly" if line.hidden else True,
        meta={"colour": line.colour, "band": True},
    )


def _line(line: Line, last: int | None) -> Any:
    where = "depth %{x:.2f}" if last is None else f"layer %{{x}} of {last}"
    errors = [f" ± {se:.2g}" if se is not None else "" for se in line.se] or [""] * len(line.x)
    return go.Scatter(
        x=list(line.x),
        y=list(line.y),
        name=line.name,
        legendgroup=line.name,
        mode="lines+markers" if line.dash == SOLID else "lines",
        line={"dash": line.dash, "width": 2},
        marker={"symbol": SYMBOLS[line.colour % len(SYMBOLS)], "size": 5},
        customdata=errors,
        hovertemplate=f"<b>{_safe(line.name)}</b><br>{where}<br>%{{y:.4g}}%{{customdata}}<extra></extra>",
        visible="legendonly" if line.hidden else True,
        meta={"colour": line.colour},
    )


def _safe(name: str) -> str:
    """A name escaped for plotly's own markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace("%", "&#37;")


def _heatmap(heat: Heat) -> Any:
    logs = [[round(math.log10(value), 3) if value else None for value in row] for row in heat.rows]
    known = [value for row in logs for value in row if value is not None]
    ticks = list(range(math.floor(min(known)), math.ceil(max(known)) + 1))
    return go.Heatmap(
        z=logs,
        y=list(range(1, len(logs) + 1)),
        customdata=[[f"{value:.3g}" if value else "0" for value in row] for row in heat.rows],
        colorscale="Cividis",
        colorbar={
            "title": {"text": "norm", "side": "right"},
            "tickvals": ticks,
            "ticktext": [f"{10.0**tick:g}" for tick in ticks],
            "thickness": 14,
        },
        hovertemplate="position %{x}, layer %{y}<br>norm %{customdata}<extra></extra>",
    )


def _mark(drawing: Any, figure: Figure) -> None:
    for boundary in figure.boundaries:
        _mark_boundary(drawing, boundary)
    for name, x, row in figure.phase_labels(CHARACTERS):
        drawing.add_annotation(
            x=x, y=1, yref="paper", yanchor="bottom", yshift=PHASE_ROW * row, text=name, showarrow=False
        )
    if figure.heat is not None:
        _bracket(drawing, 0, min(FIRST_POSITIONS, len(figure.heat.rows[0])), f"first {FIRST_POSITIONS}", 1.0)
        for start, end in figure.heat.visual:
            _bracket(drawing, start, end, "image tokens", 1.0 if start >= FIRST_POSITIONS else 1.08)


def _mark_boundary(drawing: Any, boundary: Boundary) -> None:
    if boundary.low is not None and boundary.high is not None:
        x0, x1 = boundary.low - 0.25, boundary.high + 0.25  # wide enough to show an interval of one layer
        drawing.add_shape(
            type="rect", x0=x0, x1=x1, y0=0, y1=1, yref="paper", fillcolor=SHADE, line={"width": 0}
        )
    line = {"color": GREY, "width": 1.5, "dash": "dash"}
    drawing.add_shape(type="line", x0=boundary.layer, x1=boundary.layer, y0=0, y1=1, yref="paper", line=line)


def _bracket(drawing: Any, start: int, end: int, text: str, y: float) -> None:
    """Draw a line above the columns ``start`` to ``end`` (exclusive), with the label ``text``."""
    line = {"color": GREY, "width": 3}
    drawing.add_shape(
        type="line", x0=start - 0.4, x1=end - 0.6, y0=y + 0.01, y1=y + 0.01, yref="paper", line=line
    )
    drawing.add_annotation(
        x=(start + end - 1) / 2,
        y=y + 0.015,
        yref="paper",
        yanchor="bottom",
        text=text,
        showarrow=False,
        font={"size": 11},
    )
