"""Curves in text: a plot of one, a row of blocks for each of many; where phases meet is marked in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import uniplot

from phasebench.report.figure_model import Boundary, Value

BLOCKS = "▁▂▃▄▅▆▇█"
MEET = "│"
"""Between the blocks of two phases."""


def sparkline(values: Sequence[Value], ends: Sequence[int] = (), width: int | None = None) -> str:
    """A block for each layer, lowest to highest; a space where there is no value, ``│`` after a phase's end.

    Of more layers than ``width`` has room for, neighbours share a block, as their mean.
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
    """``size`` layers in at most ``most`` runs of about the same length: (first, end) of each."""
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
    """A curve over layers 0..L in a frame of ``width`` x ``height`` characters inside.

    It is drawn in quarter blocks: braille is finer, but few monospaced fonts have it. A vertical line stands
    at every boundary; below are its layer, with the interval where there is room, and the phases' names.
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
    """Rows of layers and of phases under a plot of ``size`` layers."""

    def at(layer: float) -> int:
        return 1 + int((layer + 0.5) * width / size)

    ends = [boundary.layer for boundary in boundaries]
    edges = [(at(layer), str(layer)) for layer in (0, size - 1)]
    told = [(at(boundary.layer), str(boundary)) for boundary in boundaries]
    row, standing = _row([*told, *edges], width + 2)
    if standing < len(told):
        row, _ = _row([*((at(end), str(end)) for end in ends), *edges], width + 2)
    yield row
    places = [0, *ends, size - 1]
    middles = [(places[k] + places[k + 1]) / 2 for k in range(len(phases))]
    yield _row([(at(middle), name) for middle, name in zip(middles, phases, strict=True)], width + 2)[0]


def _row(labels: Sequence[tuple[int, str]], width: int) -> tuple[str, int]:
    """Labels centred on their columns, and how many there are before the first that has no room."""
    row, standing = " " * width, len(labels)
    for number, (column, text) in enumerate(labels):
        start = max(0, min(column - len(text) // 2, width - len(text)))
        if row[max(0, start - 1) : start + len(text) + 1].strip():
            standing = min(standing, number)
        else:
            row = row[:start] + text + row[start + len(text) :]
    return row.rstrip(), standing
