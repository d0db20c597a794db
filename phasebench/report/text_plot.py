"""Curves as text: the plot of one curve, or one row of blocks per curve; both mark the phases' boundaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import uniplot

from phasebench.report.figure_model import Boundary, Value

BLOCKS = "▁▂▃▄▅▆▇█"
MEET = "│"
"""The mark between the blocks of two phases."""


def sparkline(values: Sequence[Value], ends: Sequence[int] = (), width: int | None = None) -> str:
    """One block per layer, from the lowest to the highest value; ``│`` follows the last layer of a phase.

    A layer without a value is a space. If there are more layers than columns, neighbouring layers share a
    block, which shows their mean.

    Args:
        values: the curve by layer.
        ends: the last layers of phases.
        width: the number of columns; None for as many as needed.
    """
    cells = _cells(len(values), width and max(1, width - len(ends)))
    means = [_mean(values[first:end]) for first, end in cells]
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    drawn = ""
    for (first, end), mean in zip(cells, means, strict=True):
        drawn += " " if mean is None else BLOCKS[round((mean - low) * scale)]
        drawn += MEET * any(first <= layer < end for layer in ends)
    return drawn


def _cells(size: int, most: int | None) -> list[tuple[int, int]]:
    """Split ``size`` layers into at most ``most`` spans [first, end) of about the same length."""
    count = min(size, most or size)
    return [(k * size // count, (k + 1) * size // count) for k in range(count)]


def _mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def plot(
    values: Sequence[Value],
    phases: Sequence[str] = (),
    boundaries: Sequence[Boundary] = (),
    *,
    width: int = 68,
    height: int = 8,
) -> list[str]:
    """The lines of a plot of one curve over layers 0..L, in a frame of ``width`` x ``height`` characters.

    The plot uses quarter blocks: braille characters are finer, but few monospaced fonts have them. A vertical
    line marks every boundary; below it are the boundary's layer, with the interval if there is room, and the
    names of the phases. Empty if no layer has a value.
    """
    known = {layer: value for layer, value in enumerate(values) if value is not None}
    if not known:
        return []
    size = len(values)
    ends = [boundary.layer for boundary in boundaries]
    drawn = uniplot.plot_to_string(
        list(known.values()), list(known), lines=True, color=False, width=width, height=height,
        x_min=-0.5, x_max=size - 0.5, x_gridlines=ends, y_gridlines=[], x_labels=False,
    )  # fmt: skip
    return [*drawn.splitlines(), *filter(None, _below(phases, boundaries, size, width))]


def _below(phases: Sequence[str], boundaries: Sequence[Boundary], size: int, width: int) -> Iterator[str]:
    """The rows below a plot of ``size`` layers: the layers of the boundaries, and the names of the phases."""

    def column(layer: float) -> int:
        return 1 + int((layer + 0.5) * width / size)

    ends = [boundary.layer for boundary in boundaries]
    edges = [(column(layer), str(layer)) for layer in (0, size - 1)]
    labels = [(column(boundary.layer), str(boundary)) for boundary in boundaries]
    row, fitting = _row([*labels, *edges], width + 2)
    if fitting < len(labels):
        row, _ = _row([*((column(end), str(end)) for end in ends), *edges], width + 2)
    yield row
    places = [0, *ends, size - 1]
    middles = [(places[k] + places[k + 1]) / 2 for k in range(len(phases))]
    yield _row([(column(middle), name) for middle, name in zip(middles, phases, strict=True)], width + 2)[0]


def _row(labels: Sequence[tuple[int, str]], width: int) -> tuple[str, int]:
    """A row of labels centred on their columns, and the number of labels before the first without room."""
    row, fitting = " " * width, len(labels)
    for number, (column, text) in enumerate(labels):
        start = max(0, min(column - len(text) // 2, width - len(text)))
        if row[max(0, start - 1) : start + len(text) + 1].strip():
            fitting = min(fitting, number)
        else:
            row = row[:start] + text + row[start + len(text) :]
    return row.rstrip(), fitting
