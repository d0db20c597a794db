"""The phases of a model's mean inter curve, and how sure they are given its images (paper section 3.1).

The verdict on four phases is reached in three steps:

1. Four phases are fitted. A phase's height is *beyond noise* if its interval lies above ``min_height``. Four
   phases are *sure* if each height is beyond noise, and all but the largest also jointly (``JOINT_Z``).
2. Patterns of five and six phases that contain four are fitted too. Such a pattern is *sure* if each of its
   heights is beyond noise after correction for all pairs of layers (Bonferroni). Its *gain* is the decrease
   of the squared error that it brings over four phases, divided by that of four phases over fewer.
3. Four sure phases hold if every gain is below ``SMALL_GAIN``: the extra phases are a detail. A sure pattern
   whose gain is above ``LARGE_GAIN`` refutes them. In all other cases they are undecided.

The pattern that is reported is the sure one: a longer pattern that refutes, or the four phases. If neither is
sure, it is the pattern that an information criterion prefers (``phases.find_phases``).
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
    patterns,
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
WANDER = 2.1
"""Factor on the curve's own roughness where heights are taken together. Roughness is measured layer by layer,
so it sees the whole of a zigzag but only part of a wander over several layers: 1 / 2.1 of the standard
deviation of an autoregression with coefficient 0.7."""
SMALL_GAIN, LARGE_GAIN = 1 / 3, 2 / 3
"""Extra phases are a detail up to the first gain, and as good as the four from the second on. The gap keeps
noise from turning a refuted pattern into one that holds."""
MIN_HEIGHT_SHARE = 0.005
"""Smallest height of a phase as a share of the curve's range, however sure it is."""
LONGER: tuple[Pattern, ...] = ((*FOUR, 1, -1), (-1, *FOUR, 1), (*FOUR, 1), (-1, *FOUR))
"""Patterns of more than four phases that contain four."""
FEWER = tuple(pattern for pattern in patterns() if len(pattern) < len(FOUR))
"""Patterns of fewer than four phases."""
ROUGHNESS_FACTOR = 3.0
"""Roughness counts as the curve's own if it exceeds that from sampling noise by this factor."""


@dataclass(frozen=True)
class Wiggle:
    """The lowest phase of a pattern that is longer than four.

    Attributes:
        layer: the layer at its end.
        share: its height as a share of the curve's range.
        falls: whether it is a fall.
    """

    layer: int
    share: float
    falls: bool

    def __str__(self) -> str:
        return f"a {'dip' if self.falls else 'rise'} of {self.share:.1%} at layer {self.layer}"


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
    def four(self) -> Phases:
        """The four phases that fit best, whether they are sure or not."""
        return fit_pattern(self.mean, FOUR, self._errors)

    @cached_property
    def four_are_sure(self) -> bool:
        """Whether each of the four heights is beyond noise, and all but the largest also jointly (step 1)."""
        four_heights = self.phase_heights(self.four)
        return self._are_beyond_noise(four_heights) and joint_z(four_heights, self.min_height) > JOINT_Z

    @cached_property
    def refuting(self) -> Phases | None:
        """The longest pattern that is sure and has a large gain; None if there is none (step 3)."""
        refuting = (p for p in self._longer if self.gain(p) > LARGE_GAIN and self._is_sure(p))
        return next(refuting, None)

    @cached_property
    def rival(self) -> Phases | None:
        """The longer pattern of the largest gain, if that is not small; None if it is (step 3)."""
        best = max(self._longer, key=self.gain)
        return best if self.gain(best) >= SMALL_GAIN else None

    @cached_property
    def wiggle(self) -> Wiggle | None:
        """The lowest phase of a longer pattern that is beyond noise but has a small gain, if there is one."""
        longer = [p for p in self._longer if self._are_beyond_noise(self.phase_heights(p))]
        if self.rival or not longer:
            return None
        phases = max(longer, key=self.gain)
        phase_heights = heights(self.mean, phases)
        number = int(np.argmin(phase_heights))
        layer = [*phases.boundaries, self.curves.last][number]
        share = float(phase_heights[number] / np.ptp(self.mean))
        return Wiggle(layer, share, phases.pattern[number] < 0)

    def gain(self, longer: Phases) -> float:
        """The decrease of the squared error by a longer pattern, relative to that by four phases (step 2)."""
        smallest = ROUNDING**2 * len(self.mean)
        return (self.four.error - longer.error) / max(self._fewer_error - self.four.error, smallest)

    @cached_property
    def chosen(self) -> Phases:
        """The pattern that is reported."""
        if self.refuting or self.four_are_sure:
            return self.refuting or self.four
        preferred = find_phases(self.mean, sampling_noise(self.curves), self._errors)
        return self.four if preferred.pattern in LONGER else preferred

    @property
    def judged(self) -> Phases:
        """The pattern whose heights are judged: the one that refutes four phases, else the four."""
        return self.refuting or self.four

    @property
    def heights(self) -> list[Estimate]:
        """The heights of the judged pattern."""
        return self.phase_heights(self.judged)

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

    def images_to_join(self) -> int | None:
        """How many images would put ``joint_z`` above ``JOINT_Z``; None if too many."""
        measured_heights = self.heights

        def is_above(images: int) -> bool:
            scaled_heights = [height.with_images(images) for height in measured_heights]
            return joint_z(scaled_heights, self.min_height) > JOINT_Z

        return images_to_decide(measured_heights[0].images, is_above)

    def images_to_refute(self) -> int | None:
        """How many images would make the rival sure; None if too many, or if its gain is not large."""
        if self.rival is None or self.gain(self.rival) <= LARGE_GAIN:
            return None
        measured_heights = self.phase_heights(self.rival)

        def is_sure(images: int) -> bool:
            scaled_heights = [height.with_images(images) for height in measured_heights]
            return self._are_beyond_noise(scaled_heights, self._pairs)

        return images_to_decide(measured_heights[0].images, is_sure)

    @cached_property
    def _errors(self) -> dict[int, Array]:
        return isotonic_errors(self.mean)

    @cached_property
    def _longer(self) -> list[Phases]:
        return [fit_pattern(self.mean, pattern, self._errors) for pattern in LONGER]

    @cached_property
    def _fewer_error(self) -> float:
        """The least squared error of fewer than four phases."""
        return min(fit_pattern(self.mean, pattern, self._errors).error for pattern in FEWER)

    @cached_property
    def _roughness(self) -> float:
        return own_roughness(self.curves)

    @property
    def _pairs(self) -> int:
        return math.comb(self.curves.last + 1, 2)

    def _is_sure(self, longer: Phases) -> bool:
        return self._are_beyond_noise(self.phase_heights(longer), self._pairs)

    def _are_beyond_noise(self, phase_heights: Sequence[Estimate], count: int = 1) -> bool:
        """Whether each height is beyond noise, corrected for ``count`` heights."""
        return all(_lower_end(height, count) > self.min_height + ROUNDING for height in phase_heights)


def joint_z(phase_heights: Sequence[Estimate], bound: float) -> float:
    """Mean of all z-scores but the largest: how far heights lie above ``bound``, in standard errors.

    The curve's own roughness counts ``WANDER`` times.
    """
    wandering = [replace(height, fixed=WANDER * height.fixed) for height in phase_heights]
    return fmean(sorted((height.value - bound) / _error(height) for height in wandering)[:-1])


def _error(height: Estimate) -> float:
    """The standard error, more than rounding; a single image has none over images."""
    return math.hypot(np.nan_to_num(height.error), height.fixed, ROUNDING)


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
