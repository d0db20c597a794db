"""Mean curves with known phases, whose heights are given in standard errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.signal import lfilter

from phasebench.curves import Array
from phasebench.judge.findings.phases import FOUR
from tests.statistics.populations import Population

PAPER, EVEN, BUNDLED = (2, 8, 25), (8, 15, 23), (5, 20, 29)
"""Boundaries in 30 layers: at the paper's depths, evenly spaced, and as in smol-instructblip."""
PLATEAU = 4
"""Number of layers for which a curve with plateaus is constant after a turning point."""


def steps(ends: tuple[int, ...], layers: int) -> Array:
    """The matrix that computes each interval's height from a curve [intervals, layers]."""
    eye = np.eye(layers)
    return np.array([eye[b] - eye[a] for a, b in pairwise(ends)])


def four(population: Population, boundaries: tuple[int, ...], images: int, height: float) -> Array:
    """Straight lines; each interval is ``height`` of its own standard errors high [L + 1]."""
    last = len(population.truth["inter"]) - 1
    ends = (0, *boundaries, last)
    errors = population.error(steps(ends, last + 1), images)
    values = np.concatenate([[0], np.cumsum(height * errors * np.asarray(FOUR))])
    return np.interp(np.arange(last + 1), ends, values)


def four_with_plateaus(
    population: Population, boundaries: tuple[int, ...], images: int, height: float
) -> Array:
    """The curve of ``four`` with a plateau of ``PLATEAU`` layers after each turning point [L + 1]."""
    last = len(population.truth["inter"]) - 1
    sharp = four(population, boundaries, images, height)
    points = {0: 0.0, last: sharp[last]}
    for boundary in boundaries:
        points |= {boundary: sharp[boundary], min(boundary + PLATEAU, last - 1): sharp[boundary]}
    return np.interp(np.arange(last + 1), sorted(points), [points[x] for x in sorted(points)])


OTHER_SHAPES: dict[str, dict[float, float]] = {
    "flat": {0: 0, 1: 0},
    "rise": {0: 0, 1: 1},
    "rise, then flat": {0: 0, 0.17: 1, 1: 1},
    "flat, then rise": {0: 0, 0.83: 0, 1: 1},
    "two steps up": {0: 0, 0.17: 0, 0.27: 0.5, 0.5: 0.5, 0.6: 1, 1: 1},
    "rise, fall, flat": {0: 0, 0.17: 1, 0.33: 0, 1: 0},
    "rise, fall, rise": {0: 0, 0.1: 1, 0.3: 0, 1: 1},
    "rise, fall, rise, flat": {0: 0, 0.13: 1, 0.3: 0, 0.47: 1, 1: 1},
    "fall, rise, fall, rise": {0: 1, 0.25: 0, 0.5: 1, 0.75: 0, 1: 1},
    "four, then rise": {0: 0, 0.13: 1, 0.25: 0, 0.5: 1, 0.75: 0, 1: 0.9},
    "fall, then four": {0: 0.8, 0.13: 0, 0.3: 1, 0.45: 0.25, 0.75: 1, 1: 0.5},
}
"""Depth -> height of curves that do not have exactly the four phases rise, fall, rise, fall."""
MONOTONE = ("flat", "rise", "rise, then flat", "flat, then rise", "two steps up")


LAYERS = 41
"""Layers of the curves below: 0 to 40, as in the paper's models."""
PAPER_CURVE: dict[float, float] = {0: 0, 3 / 40: 0.4, 10 / 40: 0.3, 33 / 40: 0.7, 1: 0.5}
"""Depth -> height of a curve with the paper's boundaries."""
WANDERING: dict[str, dict[float, float]] = {
    "flat": {0: 0, 1: 0},
    "concave rise": {k / 40: 0.5 * (1 - (1 - k / 40) ** 2) for k in range(41)},
    "rise": {0: 0, 1: 0.5},
    "rise, fall": {0: 0, 0.5: 0.5, 1: 0},
    "paper's four": PAPER_CURVE,
}
"""Depth -> height of the curves to which a wander over layers is added."""


def straight(points: dict[float, float]) -> Array:
    """Straight lines through (depth, height) points [41]."""
    return np.interp(np.arange(LAYERS) / (LAYERS - 1), list(points), list(points.values()))


def wander(coefficient: float, size: float, rng: np.random.Generator) -> Array:
    """A stationary autoregression of first order over layers, with standard deviation ``size`` [41]."""
    shocks = size * np.sqrt(1 - coefficient**2) * rng.standard_normal(LAYERS)
    shocks[0] /= np.sqrt(1 - coefficient**2)
    return np.asarray(lfilter([1.0], [1.0, -coefficient], shocks), dtype=np.float64)


def with_dip(share: float, zigzag: float, rng: np.random.Generator) -> Array:
    """The paper's curve with a dip at layer 22, as a share of its range, and independent noise of layers."""
    curve = straight(PAPER_CURVE)
    curve[22] -= share * np.ptp(curve)
    return curve + zigzag * rng.standard_normal(LAYERS)


def other_shape(name: str, population: Population, images: int, size: float) -> Array:
    """A curve of ``OTHER_SHAPES`` that is ``size`` standard errors high [L + 1]."""
    last = len(population.truth["inter"]) - 1
    rows = population.deviations["inter"].mean(axis=1)
    shape = rows - rows.mean(axis=1, keepdims=True)
    error = np.sqrt(shape.var(axis=0).mean() * population.deviations["inter"].shape[1] / images)
    points = OTHER_SHAPES[name]
    return size * error * np.interp(np.arange(last + 1) / last, list(points), list(points.values()))
