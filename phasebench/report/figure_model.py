"""What a figure shows, whatever draws it: lines with bands, phases, or a heatmap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Value = float | None
DASHES = ("solid", "dash", "dot", "dashdot")
"""Measured; baseline; control; without sinks."""
SOLID, BASELINE, CONTROL, NO_SINK = DASHES


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: as the legend has it.
        x, y: its points; None where there is no value.
        se: standard errors, drawn as a band; empty if there are none.
        colour: its number in the palette; a marker goes with it where the line is solid.
        dash: one of ``DASHES``.
        hidden: drawn when it is asked for.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Value]
    se: Sequence[Value] = ()
    colour: int = 0
    dash: str = SOLID
    hidden: bool = False

    @property
    def known(self) -> list[int]:
        """Numbers of the points that have a value."""
        return [index for index, value in enumerate(self.y) if value is not None]

    @property
    def band(self) -> list[tuple[float, float, float]]:
        """``(x, low, high)``: a standard error to both sides, where there is one."""
        pairs = zip(self.x, self.y, self.se or [None] * len(self.x), strict=False)
        return [(x, y - se, y + se) for x, y, se in pairs if y is not None and se is not None]


@dataclass(frozen=True)
class Boundary:
    """Where one phase ends and the next begins, with its interval."""

    layer: int
    low: Value
    high: Value

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.layer}"
        return f"{self.layer} [{self.low:.0f}, {self.high:.0f}]"


@dataclass(frozen=True)
class Heat:
    """A heatmap: rows are layers 1..L, columns positions; ``visual`` are the image tokens' spans."""

    rows: Sequence[Sequence[Value]]
    visual: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, or one like it.

    Attributes:
        id: unique among the figures of a model and dataset; the name of its files.
        title, caption: what it is, and how to read it.
        label: of the vertical axis.
        last: L, where the horizontal axis is the layer; None where it is the depth.
        lines, heat: what is drawn.
        phases, boundaries: names of the phases, and what lies between them.
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

    @property
    def spans(self) -> list[tuple[str, float, float]]:
        """``(name, from, to)`` of the phases, in layers."""
        if not self.phases or self.last is None:
            return []
        ends = [0, *(boundary.layer for boundary in self.boundaries), self.last]
        return [(name, ends[k], ends[k + 1]) for k, name in enumerate(self.phases)]

    @property
    def ticks(self) -> list[int]:
        """At most nine layers from 0 to L, for an axis of layers."""
        last = self.last or 0
        step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if last <= 8 * step)
        inner = [layer for layer in range(0, last, step) if last - layer > step / 2]
        return [*inner, last]
