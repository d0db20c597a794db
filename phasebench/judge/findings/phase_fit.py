"""The phases of a model's mean inter curve, and how sure they are given its images (paper section 3.1).

The verdict on four phases is reached in four steps:

1. The *best* pattern is the one that an information criterion chooses on the mean curve
   (``phases.find_phases``).
2. A phase's height is *beyond noise* if its interval lies above ``min_height``. Four phases are *sure* if
   each height is beyond noise, and all but the largest also jointly (``JOINT_Z``). Five or six are sure if
   each height is beyond noise after correction for all pairs of layers (Bonferroni).
3. The *chosen* pattern is the sure one. If none is sure, it is the best one, or four phases if the best has
   more.
4. Four sure phases hold, unless there is a *competitor*: a best pattern of five or six phases, each beyond
   noise, though not sure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.findings.phases import (
    FOUR,
    Pattern,
    Phases,
    find_phases,
    fit_pattern,
    heights,
    isotonic_errors,
    roughness,
)
from phasebench.judge.statistics import (
    DOWN,
    ROUNDING,
    Estimate,
    bootstrap_weights,
    estimates,
    images_to_decide,
    percentile_estimate,
    replicates,
    resampled_means,
)

REFITS = 200
"""Number of resamples whose phases are fitted; each costs some milliseconds."""
HEIGHT_LEVEL = 0.97
"""Level of the heights' intervals. It is above the usual one because the boundaries are chosen on the same
images, which makes heights look larger than they are; ``docs/statistics.md`` has the error rates."""
JOINT_Z = 3.1
"""Bound of the mean of all heights but the largest, in standard errors. If there is one phase or none, the
boundaries are fitted to noise: each of the three heights may be large by chance, but rarely all."""
MIN_HEIGHT_SHARE = 0.005
"""Smallest height of a phase as a share of the curve's range, however sure it is."""
LONGER: tuple[Pattern, ...] = ((*FOUR, 1, -1), (-1, *FOUR, 1), (*FOUR, 1), (-1, *FOUR))
"""Patterns of more than four phases that contain four."""
ROUGHNESS_FACTOR = 3.0
"""Roughness counts as the curve's own if it exceeds that from sampling noise by this factor."""


@dataclass(frozen=True)
class PhaseFit:
    """The phases of the mean inter curve; each step is computed once, when it is first needed."""

    curves: Curves
    _heights: dict[Phases, list[Estimate]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def mean(self) -> Array:
        """The mean inter curve [L + 1]."""
        return self.curves.mean("inter")

    @cached_property
    def min_height(self) -> float:
        """The bound that a phase's height must exceed; more than rounding."""
        return float(max(MIN_HEIGHT_SHARE * np.ptp(self.mean), 2 * ROUNDING))

    @cached_property
    def best(self) -> Phases:
        """The pattern that the criterion chooses; with few images it may be wrong."""
        return find_phases(self.mean, sampling_noise(self.curves), self._errors)

    @cached_property
    def sure(self) -> Phases | None:
        """Four or more phases that are sure (step 2); None if there are none."""
        for pattern in LONGER:
            longer = fit_pattern(self.mean, pattern, self._errors)
            if self._are_beyond_noise(self.phase_heights(longer), self._pairs):
                return longer
        four_heights = self.phase_heights(self._four)
        is_sure = self._are_beyond_noise(four_heights) and joint_z(four_heights, self.min_height) > JOINT_Z
        return self._four if is_sure else None

    @cached_property
    def chosen(self) -> Phases:
        """The pattern that is reported (step 3)."""
        return self.sure or (self._four if self.best.pattern in LONGER else self.best)

    @property
    def judged(self) -> Phases:
        """The pattern whose heights are judged: the sure one, else four phases."""
        return self.sure or self._four

    @property
    def heights(self) -> list[Estimate]:
        """The heights of the judged pattern."""
        return self.phase_heights(self.judged)

    @cached_property
    def competitor(self) -> Phases | None:
        """Five or six phases that fit better than four, each beyond noise (step 4), if there are any."""
        is_longer = self.best.pattern in LONGER
        return self.best if is_longer and self._are_beyond_noise(self.phase_heights(self.best)) else None

    def phase_heights(self, phases: Phases) -> list[Estimate]:
        """Each phase's height with its interval at ``HEIGHT_LEVEL``; the boundaries are kept fixed.

        A height's error has two parts: the one over images, and the curve's own roughness. Two layers that
        happen to lie high and low are no phase, however many images agree on their values.
        """
        if phases not in self._heights:
            self._heights[phases] = estimates(
                self.curves,
                ("inter",),
                lambda means: heights(means["inter"], phases),
                fixed=math.sqrt(2) * self._roughness,
                level=HEIGHT_LEVEL,
            )
        return self._heights[phases]

    def lowest_z(self, phases: Phases) -> float:
        """How far the lowest of the heights' intervals lies above ``min_height``, in standard errors."""
        ends = [replace(height, value=_lower_end(height)) for height in self.phase_heights(phases)]
        return min(_z_scores(ends, self.min_height))

    def images_to_join(self) -> int | None:
        """How many images would put ``joint_z`` above ``JOINT_Z``; None if too many."""
        measured_heights = self.heights

        def is_above(images: int) -> bool:
            scaled_heights = [height.with_images(images) for height in measured_heights]
            return joint_z(scaled_heights, self.min_height) > JOINT_Z

        return images_to_decide(measured_heights[0].images, is_above)

    def images_to_settle(self, competitor: Phases) -> int | None:
        """How many images would make a competitor's phases sure; None if too many."""
        measured_heights = self.phase_heights(competitor)

        def is_sure(images: int) -> bool:
            scaled_heights = [height.with_images(images) for height in measured_heights]
            return self._are_beyond_noise(scaled_heights, self._pairs)

        return images_to_decide(measured_heights[0].images, is_sure)

    @cached_property
    def _errors(self) -> dict[int, Array]:
        return isotonic_errors(self.mean)

    @cached_property
    def _four(self) -> Phases:
        return fit_pattern(self.mean, FOUR, self._errors)

    @cached_property
    def _roughness(self) -> float:
        return own_roughness(self.curves)

    @property
    def _pairs(self) -> int:
        return math.comb(self.curves.last + 1, 2)

    def _are_beyond_noise(self, phase_heights: Sequence[Estimate], count: int = 1) -> bool:
        """Whether each height is beyond noise, corrected for ``count`` heights."""
        return all(_lower_end(height, count) > self.min_height + ROUNDING for height in phase_heights)


def joint_z(phase_heights: Sequence[Estimate], bound: float) -> float:
    """Mean of all z-scores but the largest: how far heights lie above ``bound``, in standard errors."""
    return fmean(sorted(_z_scores(phase_heights, bound))[:-1])


def _z_scores(phase_heights: Sequence[Estimate], bound: float) -> list[float]:
    sizes = [math.hypot(np.nan_to_num(height.error), height.fixed, ROUNDING) for height in phase_heights]
    return [(height.value - bound) / size for height, size in zip(phase_heights, sizes, strict=True)]


def _lower_end(height: Estimate, count: int = 1) -> float:
    """The lower end of the interval; a single image has no error over images, only the curve's roughness."""
    with_error = replace(height, error=float(np.nan_to_num(height.error)))
    return height.value - with_error.half_width(DOWN, count)


def own_roughness(curves: Curves) -> float:
    """The roughness of the mean curve beyond that from the noise of its images."""
    mean, without_items = replicates(curves, ("inter",), lambda means: means["inter"])
    if len(mean) < 3:
        return 0.0
    bend_variance = np.diff(without_items, 2).var(axis=0).mean()
    sampling_variance = np.nan_to_num((len(without_items) - 1) * bend_variance) / 6
    return float(np.sqrt(max(0.0, roughness(mean) ** 2 - ROUGHNESS_FACTOR * sampling_variance)))


def sampling_noise(curves: Curves) -> float:
    """Standard error of the mean curve about its own level, over layers; 0 for a single item."""
    _, without_items = replicates(curves, ("inter",), lambda means: means["inter"])
    shape = without_items - without_items.mean(axis=1, keepdims=True)
    return float(np.nan_to_num(np.sqrt((len(without_items) - 1) * shape.var(axis=0).mean())))


def boundary_replicates(resamples: Array, pattern: Pattern) -> Array:
    """The boundaries of ``pattern`` in each resample [R, intervals - 1]; NaN where it has no values."""
    no_values = (np.nan,) * (len(pattern) - 1)
    rows = [
        fit_pattern(row, pattern).boundaries if np.isfinite(row).all() else no_values for row in resamples
    ]
    return np.array(rows, dtype=np.float64)


def boundary_estimates(curves: Curves, phases: Phases) -> list[Estimate]:
    """The layers at which one phase ends and the next begins; the intervals are from refitted resamples."""
    draws = bootstrap_weights(list(curves.items.values()), REFITS)
    refits = boundary_replicates(resampled_means(curves, "inter", draws), phases.pattern)
    return [
        percentile_estimate(layer, column, 1.0)
        for layer, column in zip(phases.boundaries, refits.T, strict=True)
    ]
