"""The content of a figure, independent of the library that draws it: lines with bands, phases, a heatmap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Value = float | None
DASHES = ("solid", "dash", "dot", "dashdot")
"""Line styles of measured curves, baselines, controls, and curves without sinks."""
SOLID, BASELINE, CONTROL, NO_SINK = DASHES


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: its name in the legend.
        x, y: its points; y is None where there is no value.
        se: standard errors of y, or the allowed differences, drawn as a band; empty if there are none.
        colour: the number of its colour in the palette; a solid line also has the marker of that number.
        dash: one of ``DASHES``.
        hidden: whether the line is drawn only after a click in the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Value]
    se: Sequence[Value] = ()
    colour: int = 0
    dash: str = SOLID
    hidden: bool = False

    @property
    def defined_points(self) -> list[int]:
        """The numbers of the points that have a value."""
        return [index for index, value in enumerate(self.y) if value is not None]

    @property
    def band(self) -> list[tuple[float, float, float]]:
        """The band ``(x, low, high)``: y minus and plus ``se``, at the points that have it."""
        pairs = zip(self.x, self.y, self.se or [None] * len(self.x), strict=False)
        return [(x, y - se, y + se) for x, y, se in pairs if y is not None and se is not None]


@dataclass(frozen=True)
class Boundary:
    """The layer at which one phase ends and the next begins, with its interval."""

    layer: int
    low: Value
    high: Value

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.layer}"
        return f"{self.layer} [{self.low:.0f}, {self.high:.0f}]"


@dataclass(frozen=True)
class Heat:
    """A heatmap: rows are layers 1..L, columns positions; ``visual`` has the spans of the image tokens."""

    rows: Sequence[Sequence[Value]]
    visual: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, or one like it.

    Attributes:
        id: unique among the figures of a model and dataset; the name of its files.
        title, caption: its title, and an explanation of how to read it.
        paper: the paper's figure that it is like, such as ``Figure 1``; empty for others.
        label: the label of the vertical axis.
        last: the last layer L if the horizontal axis is the layer; None if it is the relative depth.
        lines, heat: its lines or its heatmap.
        phases, boundaries: the names of the phases, and the boundaries between them.
        log: whether the vertical axis is logarithmic.
    """

    id: str
    title: str
    caption: str
    label: str
    last: int | None
    lines: Sequence[Line] = ()
    heat: Heat | None = None
    phases: Sequence[str] = ()
    boundaries: Sequence[Boundary] = ()
    log: bool = False
    paper: str = ""

    @property
    def spans(self) -> list[tuple[str, float, float]]:
        """``(name, from, to)`` of the phases, in layers."""
        if not self.phases or self.last is None:
            return []
        ends = [0, *(boundary.layer for boundary in self.boundaries), self.last]
        return [(name, ends[k], ends[k + 1]) for k, name in enumerate(self.phases)]

    def phase_labels(self, characters: int) -> list[tuple[str, float, int]]:
        """``(name, x, row)`` of each phase's name: where two would overlap, the second is a row higher.

        Args:
            characters: the number of characters that fit beside each other on the axis.
        """
        width = (self.last or 1) / characters
        ends: dict[int, float] = {}
        labels = []
        for name, start, end in self.spans:
            half = width * (len(name) + 1) / 2
            x = min(max((start + end) / 2, half), max(half, (self.last or 1) - half))
            row = next(row for row in range(len(self.phases)) if ends.get(row, 0.0) <= x - half + width / 4)
            ends[row] = x + half
            labels.append((name, x, row))
        return labels

    @property
    def ticks(self) -> list[int]:
        """At most nine layers from 0 to L, for an axis of layers."""
        last = self.last or 0
        step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if last <= 8 * step)
        inner = [layer for layer in range(0, last, step) if last - layer > step / 2]
        return [*inner, last]
