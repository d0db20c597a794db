"""The phases of a model's mean inter curve, and how sure its images make them (paper section 3.1).

How a verdict on four phases comes about:

1. An information criterion cuts the mean curve (``phases.find_phases``): the *best* pattern.
2. A phase's height is *beyond noise* where its interval lies above ``min_height``. Four phases are *sure*
   where each is, and all but the highest are jointly (``JOINT_Z``). Five or six are sure where each is
   beyond noise as one of all pairs of layers (Bonferroni).
3. *Chosen* is the sure pattern; without one, the best, or four where the best has more that are not sure.
4. Four sure phases hold, unless there is a *competitor*: five or six phases that are the best pattern and
   each beyond noise, though not sure.
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
    images_to_decide,
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
JOINT_Z = 3.1
"""What all heights but the largest must exceed in the mean, in standard errors. Where there is one phase or
none they are picked from noise where it shows most: each may be large by chance, rarely all three."""
MIN_HEIGHT_SHARE = 0.005
"""Share of the curve's range below which no height is called a phase, however sure it is."""
LONGER: tuple[Pattern, ...] = ((*FOUR, 1, -1), (-1, *FOUR, 1), (*FOUR, 1), (-1, *FOUR))
"""Patterns in which four phases can be found although there are more."""
ROUGHNESS_FACTOR = 3.0
"""Roughness must exceed so many times what sampling makes of it to count as the curve's own."""


@dataclass(frozen=True)
class PhaseFit:
    """The phases of the mean inter curve, each step computed once and only where it is asked for."""

    curves: Curves
    _heights: dict[Phases, list[Estimate]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def mean(self) -> Array:
        """The curve that is cut [L + 1]."""
        return self.curves.mean("inter")

    @cached_property
    def min_height(self) -> float:
        """What a height must exceed to be a phase's; more than rounding."""
        return float(max(MIN_HEIGHT_SHARE * np.ptp(self.mean), 2 * ROUNDING))

    @cached_property
    def best(self) -> Phases:
        """What the criterion chooses; few images that agree may be wrong together."""
        return find_phases(self.mean, sampling_noise(self.curves), self._errors)

    @cached_property
    def sure(self) -> Phases | None:
        """Four phases, or more, where the images leave no doubt of them."""
        for pattern in LONGER:
            longer = fit_pattern(self.mean, pattern, self._errors)
            if self._beyond(self.heights_of(longer), self._pairs):
                return longer
        found = self.heights_of(self._four)
        sure = self._beyond(found) and joint_z(found, self.min_height) > JOINT_Z
        return self._four if sure else None

    @cached_property
    def chosen(self) -> Phases:
        """The pattern that is told."""
        return self.sure or (self._four if self.best.pattern in LONGER else self.best)

    @property
    def judged(self) -> Phases:
        """The pattern whose heights are judged: the sure one, else four."""
        return self.sure or self._four

    @property
    def heights(self) -> list[Estimate]:
        """Of the judged pattern."""
        return self.heights_of(self.judged)

    @cached_property
    def competitor(self) -> Phases | None:
        """Five or six phases that fit better than four, each beyond noise."""
        longer = self.best.pattern in LONGER and self._beyond(self.heights_of(self.best))
        return self.best if longer else None

    def heights_of(self, phases: Phases) -> list[Estimate]:
        """Each interval's height, at boundaries that stay as they are, with its interval at ``HEIGHT_LEVEL``.

        Besides its error over images a height has that of the curve's own roughness: two layers that happen
        to lie high and low are no phase, however many images agree on where they lie.
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
        """How far the least of the heights' intervals lies above ``min_height``, in standard errors."""
        ends = [replace(height, value=_lower_end(height)) for height in self.heights_of(phases)]
        return min(_z_scores(ends, self.min_height))

    def images_to_join(self) -> int | None:
        """How many images would put ``joint_z`` above ``JOINT_Z``; None for more than can be had."""
        found = self.heights

        def joined(images: int) -> bool:
            return joint_z([height.with_images(images) for height in found], self.min_height) > JOINT_Z

        return images_to_decide(found[0].images, joined)

    def images_to_settle(self, competitor: Phases) -> int | None:
        """How many images would make a competitor's phases sure; None for more than can be had."""
        found = self.heights_of(competitor)

        def settled(images: int) -> bool:
            return self._beyond([height.with_images(images) for height in found], self._pairs)

        return images_to_decide(found[0].images, settled)

    @cached_property
    def _errors(self) -> dict[int, Array]:
        return errors(self.mean)

    @cached_property
    def _four(self) -> Phases:
        return fit_pattern(self.mean, FOUR, self._errors)

    @cached_property
    def _roughness(self) -> float:
        return own_roughness(self.curves)

    @property
    def _pairs(self) -> int:
        return math.comb(self.curves.last + 1, 2)

    def _beyond(self, found: Sequence[Estimate], count: int = 1) -> bool:
        """Whether each height is more than noise, as one of ``count``."""
        return all(_lower_end(height, count) > self.min_height + ROUNDING for height in found)


def joint_z(found: Sequence[Estimate], bound: float) -> float:
    """Mean of all heights but the largest, above ``bound`` and in standard errors."""
    return fmean(sorted(_z_scores(found, bound))[:-1])


def _z_scores(found: Sequence[Estimate], bound: float) -> list[float]:
    sizes = [math.hypot(np.nan_to_num(height.error), height.fixed, ROUNDING) for height in found]
    return [(height.value - bound) / size for height, size in zip(found, sizes, strict=True)]


def _lower_end(height: Estimate, count: int = 1) -> float:
    """Of a single image only the layers' own roughness is known."""
    known = replace(height, error=float(np.nan_to_num(height.error)))
    return height.value - known.half_width(DOWN, count)


def own_roughness(curves: Curves) -> float:
    """The roughness of the mean curve, beyond what the noise of its images makes."""
    mean, left = replicates(curves, ("inter",), lambda means: means["inter"])
    if len(mean) < 3:
        return 0.0
    sampled = np.nan_to_num((len(left) - 1) * np.diff(left, 2).var(axis=0).mean()) / 6
    return float(np.sqrt(max(0.0, roughness(mean) ** 2 - ROUGHNESS_FACTOR * sampled)))


def sampling_noise(curves: Curves) -> float:
    """Standard error of the mean curve about its own level, over layers; 0 for a single item."""
    _, left = replicates(curves, ("inter",), lambda means: means["inter"])
    shape = left - left.mean(axis=1, keepdims=True)
    return float(np.nan_to_num(np.sqrt((len(left) - 1) * shape.var(axis=0).mean())))


def boundary_replicates(resamples: Array, pattern: Pattern) -> Array:
    """The boundaries of ``pattern`` in each resample [R, intervals - 1]; NaN where it has no values."""
    unknown = (np.nan,) * (len(pattern) - 1)
    rows = [fit_pattern(row, pattern).boundaries if np.isfinite(row).all() else unknown for row in resamples]
    return np.array(rows, dtype=np.float64)


def boundary_estimates(curves: Curves, found: Phases) -> list[Estimate]:
    """The layers at which one phase ends and the next begins; each resample is cut anew."""
    drawn = weights(list(curves.items.values()), REFITS)
    anew = boundary_replicates(resampled_means(curves, "inter", drawn), found.pattern)
    return [percentile(layer, column, 1.0) for layer, column in zip(found.boundaries, anew.T, strict=True)]
