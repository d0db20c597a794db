"""A mean curve cut into phases, with what its images say of heights and boundaries (paper section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.phases import (
    FOUR,
    Pattern,
    Phases,
    errors,
    find_phases,
    fit_pattern,
    heights,
    roughness,
)
from phasebench.judge.statistics import (
    DOWN,
    ROUNDING,
    Estimate,
    estimates,
    fewest,
    percentile,
    replicates,
    resampled_means,
    weights,
)

REFITS = 200
"""Resamples that are cut into phases anew; each costs some milliseconds."""
HEIGHT_LEVEL = 0.97
"""Of the heights' intervals: boundaries are chosen on the same images, which makes heights look larger than
they are. ``docs/statistics.md`` has what this lets through."""
TOGETHER = 3.1
"""What all heights but the largest must exceed in the mean, in standard errors. Where there is one phase or
none they are picked from noise where it shows most: each may be large by chance, rarely all three."""
SMALLEST = 0.005
"""Share of the curve's range below which no height is called a phase, however sure it is."""
LONGER: tuple[Pattern, ...] = ((*FOUR, 1, -1), (-1, *FOUR, 1), (*FOUR, 1), (-1, *FOUR))
"""Patterns in which four phases can be found although there are more."""
CHANCE = 3.0
"""Roughness must exceed so many times what sampling makes of it to count as the curve's own."""


def phases_of(curves: Curves, name: str = "inter") -> Phases:
    """The phases of a curve's mean: four, or more, where each is more than noise, else the pattern that wins.

    Of more that win without each being sure, too little is known to say that they are not four.
    """
    if sure := sure_phases(curves, name):
        return sure
    mean = curves.mean(name)
    found = find_phases(mean, sampling_noise(curves, name))
    return fit_pattern(mean, FOUR) if found.pattern in LONGER else found


def sure_phases(curves: Curves, name: str = "inter") -> Phases | None:
    """Four phases, or more, where each is more than noise.

    Of more each must be beyond what any two layers could show by chance (Bonferroni over their pairs).
    """
    mean = curves.mean(name)
    tables, bound = errors(mean), smallest(mean)
    pairs = _pairs(curves)
    for longer in (fit_pattern(mean, pattern, tables) for pattern in LONGER):
        if all(_beyond(height, bound, pairs) for height in height_estimates(curves, longer, name)):
            return longer
    four = fit_pattern(mean, FOUR, tables)
    found = height_estimates(curves, four, name)
    if all(_beyond(height, bound) for height in found) and smaller(found, bound) > TOGETHER:
        return four
    return None


def smaller(heights: Sequence[Estimate], bound: float) -> float:
    """Mean of all heights but the largest, above ``bound`` and in standard errors."""
    return fmean(sorted(_above(heights, bound))[:-1])


def _above(heights: Sequence[Estimate], bound: float) -> list[float]:
    errors = [math.hypot(np.nan_to_num(height.error), height.fixed, ROUNDING) for height in heights]
    return [(height.value - bound) / error for height, error in zip(heights, errors, strict=True)]


def images_together(heights: Sequence[Estimate], bound: float) -> int | None:
    """How many images would make the smaller heights more than chance; None for more than can be had."""
    return fewest(heights[0].images, lambda n: smaller([h.of(n) for h in heights], bound) > TOGETHER)


def rival(curves: Curves, name: str = "inter") -> tuple[Phases, list[Estimate]] | None:
    """More than four phases that win, each more than noise though no more than some two layers may show.

    With their heights.
    """
    mean = curves.mean(name)
    found = find_phases(mean, sampling_noise(curves, name))
    if found.pattern not in LONGER:
        return None
    bound, rivals = smallest(mean), height_estimates(curves, found, name)
    return (found, rivals) if all(_beyond(height, bound) for height in rivals) else None


def rival_room(heights: Sequence[Estimate], bound: float) -> float:
    """How far the least of a rival's intervals lies above ``bound``, in standard errors."""
    return min(_above([replace(height, value=_low(height)) for height in heights], bound))


def images_apart(curves: Curves, heights: Sequence[Estimate], bound: float) -> int | None:
    """How many images would make a rival's phases sure; None for more than can be had."""
    pairs = _pairs(curves)
    return fewest(heights[0].images, lambda n: all(_beyond(h.of(n), bound, pairs) for h in heights))


def _pairs(curves: Curves) -> int:
    return math.comb(curves.last + 1, 2)


def _beyond(height: Estimate, bound: float, count: int = 1) -> bool:
    """Whether a height is more than noise."""
    return _low(height, count) > bound + ROUNDING


def _low(height: Estimate, count: int = 1) -> float:
    """A height's lower end; of a single image only the layers' own roughness is known."""
    known = replace(height, error=float(np.nan_to_num(height.error)))
    return height.value - known.reach(DOWN, count)


def smallest(mean: Array) -> float:
    """What a height must exceed to be a phase's, on a mean curve [L + 1]; more than rounding."""
    return float(max(SMALLEST * np.ptp(mean), 2 * ROUNDING))


def height_estimates(curves: Curves, phases: Phases, name: str = "inter") -> list[Estimate]:
    """Each interval's height, at boundaries that stay as they are, with its interval at ``HEIGHT_LEVEL``.

    Besides its error over images a height has that of the curve's own roughness: two layers that
    happen to lie high and low are no phase, however many images agree on where they lie.
    """
    rough = np.sqrt(2) * own_roughness(curves, name)
    return estimates(
        curves, (name,), lambda means: heights(means[name], phases), fixed=float(rough), level=HEIGHT_LEVEL
    )


def own_roughness(curves: Curves, name: str = "inter") -> float:
    """The roughness of the mean curve, beyond what the noise of its images makes."""
    mean, left = replicates(curves, (name,), lambda means: means[name])
    if len(mean) < 3:
        return 0.0
    sampled = np.nan_to_num((len(left) - 1) * np.diff(left, 2).var(axis=0).mean()) / 6
    return float(np.sqrt(max(0.0, roughness(mean) ** 2 - CHANCE * sampled)))


def sampling_noise(curves: Curves, name: str = "inter") -> float:
    """Standard error of the mean curve about its own level, over layers; 0 for a single item."""
    _, left = replicates(curves, (name,), lambda means: means[name])
    shape = left - left.mean(axis=1, keepdims=True)
    return float(np.nan_to_num(np.sqrt((len(left) - 1) * shape.var(axis=0).mean())))


def boundary_replicates(resamples: Array, pattern: Pattern) -> Array:
    """The boundaries of ``pattern`` in each resample [R, intervals - 1]; NaN where it has no values."""
    unknown = (np.nan,) * (len(pattern) - 1)
    rows = [fit_pattern(row, pattern).boundaries if np.isfinite(row).all() else unknown for row in resamples]
    return np.array(rows, dtype=np.float64)


def boundary_estimates(curves: Curves, found: Phases, name: str = "inter") -> list[Estimate]:
    """The layers at which one phase ends and the next begins; each resample is cut anew."""
    drawn = weights(list(curves.items.values()), REFITS)
    anew = boundary_replicates(resampled_means(curves, name, drawn), found.pattern)
    return [percentile(layer, column, 1.0) for layer, column in zip(found.boundaries, anew.T, strict=True)]
