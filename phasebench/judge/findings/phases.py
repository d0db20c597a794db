"""Phases (paper section 3.1): a curve divided into intervals of monotone fits by dynamic programming.

Neighbouring intervals share their turning point, so a boundary is a layer. The pattern with the smallest
information criterion wins: the squared error and a penalty for each interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phasebench.curves import Array
from phasebench.judge.statistics import ROUNDING

MAX_PHASES = 6
"""Length of the longest pattern."""
RISE, FALL = 1, -1
WORDS = {RISE: "rise", FALL: "fall"}
FOUR = (RISE, FALL, RISE, FALL)

Pattern = tuple[int, ...]


@dataclass(frozen=True)
class Phases:
    """A curve's intervals.

    Attributes:
        pattern: +1 for a rise and -1 for a fall, in order.
        boundaries: the layers between the intervals, one fewer than these.
        error: squared error of the monotone fits.
    """

    pattern: Pattern
    boundaries: tuple[int, ...]
    error: float

    def __str__(self) -> str:
        return ", ".join(WORDS[sign] for sign in self.pattern)


def find_phases(curve: Array, noise: float = 0.0, tables: dict[int, Array] | None = None) -> Phases:
    """The best pattern of one to ``MAX_PHASES`` intervals on a curve.

    Args:
        curve: values [L + 1].
        noise: standard error of the curve's layers; its own roughness is added to it.
        tables: the curve's ``isotonic_errors``, if they are computed already.
    """
    tables = tables or isotonic_errors(curve)
    floor = max(np.hypot(roughness(curve), noise), ROUNDING)
    return min(
        (fit_pattern(curve, pattern, tables) for pattern in patterns()),
        key=lambda phases: _criterion(phases, len(curve), floor),
    )


def roughness(curve: Array) -> float:
    """Standard deviation of a curve's layers [L + 1] about a smooth curve, from its second differences.

    Their median is 0 for straight lines with turning points, and a slow bend hardly changes it (after Gasser,
    Sroka and Jennen-Steinmetz 1986); 0.6745 is the median absolute value of a standard normal.
    """
    bends = np.diff(curve, 2)
    return float(np.median(np.abs(bends)) / (0.6745 * np.sqrt(6))) if len(bends) else 0.0


def fit_pattern(curve: Array, pattern: Pattern, tables: dict[int, Array] | None = None) -> Phases:
    """The best boundaries of one pattern on ``curve`` [L + 1]."""
    tables = tables or isotonic_errors(curve)
    size = len(curve)
    best = tables[pattern[0]][0].copy()
    previous = []
    for sign in pattern[1:]:
        candidates = best[:, None] + tables[sign]
        previous.append(np.argmin(candidates, axis=0))
        best = candidates[previous[-1], np.arange(size)]
    boundaries: list[int] = []
    end = size - 1
    for back in reversed(previous):
        end = int(back[end])
        boundaries.insert(0, end)
    return Phases(pattern, tuple(boundaries), float(best[-1]))


def heights(curve: Array, phases: Phases) -> Array:
    """The change over each interval in its direction [..., intervals]; negative if it goes the other way."""
    ends = [0, *phases.boundaries, curve.shape[-1] - 1]
    steps = curve[..., ends[1:]] - curve[..., ends[:-1]]
    return np.asarray(steps * np.asarray(phases.pattern), dtype=np.float64)


def _criterion(phases: Phases, size: int, floor: float) -> float:
    """The Bayesian information criterion; each interval has two parameters, a boundary and a direction."""
    return float(size * np.log(phases.error / size + floor**2) + 2 * len(phases.pattern) * np.log(size))


@lru_cache(maxsize=1)
def patterns() -> tuple[Pattern, ...]:
    """All patterns of one to ``MAX_PHASES`` intervals, each way round."""
    return tuple(
        tuple(start * (-1) ** k for k in range(count))
        for count in range(1, MAX_PHASES + 1)
        for start in (RISE, FALL)
    )


def isotonic_errors(curve: Array) -> dict[int, Array]:
    """Squared error of the isotonic fit of every interval [i..j], in each direction [L + 1, L + 1]."""
    size = len(curve)
    tables = {}
    for sign in (RISE, FALL):
        table = np.full((size, size), np.inf)
        for start in range(size):
            table[start, start + 1 :] = _prefix_errors(sign * curve[start:])[1:]
        tables[sign] = table
    return tables


def _prefix_errors(values: Array) -> Array:
    """Squared error of the increasing fit of every prefix of ``values``, by pooling adjacent violators.

    ``scipy.optimize.isotonic_regression`` would fit each prefix from scratch. Pooling fits all of them in one
    sweep, which makes the bootstrap affordable; a test compares the two.
    """
    blocks: list[tuple[float, int, float]] = []  # mean, size, squared error
    errors = np.empty(len(values))
    error = 0.0
    for index, value in enumerate(values.tolist()):
        mean, count, inner = value, 1, 0.0
        while blocks and blocks[-1][0] > mean:
            other_mean, other_count, other_inner = blocks.pop()
            error -= other_inner
            joined = count + other_count
            inner += other_inner + (mean - other_mean) ** 2 * count * other_count / joined
            mean = (mean * count + other_mean * other_count) / joined
            count = joined
        blocks.append((mean, count, inner))
        error += inner
        errors[index] = error
    return errors
