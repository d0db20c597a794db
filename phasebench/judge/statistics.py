"""Intervals over images: Student's t on a jackknife by items; the bootstrap where a number is a layer.

Where items are skewed Student's t misses the truth on one side more often than on the other, and it is one
side that a verdict rests on: that end is moved out.

An image's values are independent of another's only where they belong to different items, so items are
what is left out and drawn. ``docs/statistics.md`` has what each interval covers in simulations.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit

from phasebench.catalog import RECALLS
from phasebench.curves import Array, Curves, members
from phasebench.errors import InputError

RESAMPLES = 500
LEVEL = 0.95
UP, DOWN = 1, -1
"""The ends of an interval."""
SEED = 0
MIN_ITEMS = 3
"""With fewer items than this there is no interval, and so no decision."""
MAX_IMAGES_FACTOR = 1000
"""At most this many times the images at hand is ever recommended."""
ROUNDING = 1e-5
"""What is smaller decides nothing: it may be the rounding of float32, which is alike in every image, so that
no interval over images shows it for what it is. All numbers that are judged are of the order of 1."""
UNSEEN_HITS = 2
"""Caption words that an interval of recall allows for beyond what its images show: where few images have a
hit their scatter says little, where none has one it says nothing. Agresti and Coull (1998) add as many hits
to a share's interval."""
WORD = 0.5
"""What a caption word is worth in the recall of an image (of two words), where no image has a hit to tell."""

Means = Mapping[str, Array]
"""Curve name -> its mean [L + 1], or replicates of it [R, L + 1]."""
Statistic = Callable[[Means], Array]
"""Numbers [...] of a set of means, or as many for each replicate [R, ...]."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value, low, high: the value and the interval's ends; NaN where there are too few items.
        error: standard error over items, and of ``unseen_hits_error`` words: what shrinks with more images.
        fixed: standard deviation that more images leave as it is.
        skew: a sixth of the skewness that the value has over samples, above 0 with a long tail upwards.
        items, images: how many it rests on, of the curve that fewest have values of; 0 items where the
            ends do not come from Student's t.
        level: the interval's.
    """

    value: float
    low: float
    high: float
    error: float = math.nan
    fixed: float = 0.0
    items: int = 0
    images: int = 0
    level: float = LEVEL
    skew: float = 0.0

    def half_width(self, side: int, count: int = 1) -> float:
        """How far from the value the end on a side lies, as one of ``count`` such ends (Bonferroni).

        Student's t; on the side of the long tail more, by the first term of Edgeworth's expansion (Hall 1992,
        On the removal of skewness by transformation), and on the other never less: few items say little of
        their skewness. NaN without an error.
        """
        share = 1 - (1 - self.level) / 2 / count
        quantile = float(stdtrit(self.items - 1, share) if self.items > 1 else ndtri(share))
        further = max(0.0, side * self.skew) * (2 * quantile**2 + 1)
        return quantile * math.hypot(self.error, self.fixed) + further * self.error

    def with_images(self, images: int) -> Estimate:
        """What it would be of so many images, if the value stayed; without ends."""
        times = images / self.images
        error, skew = self.error / math.sqrt(times), self.skew / math.sqrt(times)
        return replace(self, error=error, skew=skew, items=round(self.items * times), images=images)

    def corrected(self, count: int) -> Estimate:
        """The upper end moved up, so that one of ``count`` such ends lies too low no more often."""
        if self.items < MIN_ITEMS:
            return self
        return replace(self, high=self.value + self.half_width(UP, count))


def images_to_decide(images: int, decides: Callable[[int], bool]) -> int | None:
    """The smallest number of images above ``images`` that decides; None where no number does that can be had.

    ``decides`` says whether a number does; with it all larger ones do.
    """
    if not decides(MAX_IMAGES_FACTOR * images):
        return None
    return bisect_left(range(MAX_IMAGES_FACTOR * images), True, images + 1, key=decides)


def plain(value: float, digits: int) -> float | None:
    """A number as it is kept in a file: to so many significant digits; NaN and infinity as None."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def student(
    value: float,
    error: float,
    items: int,
    images: int,
    *,
    fixed: float = 0.0,
    level: float = LEVEL,
    skew: float = 0.0,
) -> Estimate:
    """``value`` with the ends that ``half_width`` gives; without them from fewer than ``MIN_ITEMS`` items."""
    found = Estimate(value, math.nan, math.nan, error, fixed, items, images, level, skew)
    if items < MIN_ITEMS:
        return found
    return replace(found, low=value - found.half_width(DOWN), high=value + found.half_width(UP))


def estimates(
    curves: Curves, names: Sequence[str], statistic: Statistic, *, fixed: float = 0.0, level: float = LEVEL
) -> list[Estimate]:
    """Each number of a smooth statistic of the curves' means [K], with its interval over items."""
    values, left = replicates(curves, names, statistic)
    items, images = valued(curves, names)
    hidden = unseen_hits_error(curves, names)
    errors = np.hypot(jackknife_errors(left), hidden)
    skews = np.zeros_like(errors) if hidden else jackknife_skews(left)
    return [
        student(value, error, items, images, fixed=fixed, level=level, skew=skew)
        for value, error, skew in zip(values.tolist(), errors.tolist(), skews.tolist(), strict=True)
    ]


def estimate(curves: Curves, names: Sequence[str], statistic: Statistic) -> Estimate:
    """The one number of a smooth statistic of the curves' means, with its interval over items.

    Raises:
        InputError: the statistic does not give a number for each set of means, as ``[3]`` does not where
            ``[..., 3]`` does.
    """

    def numbers(means: Means) -> Array:
        found, wanted = np.asarray(statistic(means)), means[names[0]].shape[:-1]
        if found.shape != wanted:
            raise InputError(
                f"estimate: of means of shape {(*wanted, 'layers')} its function gives {found.shape}, not "
                f"{wanted}; layers are the last axis, so that layer 3 is [..., 3]"
            )
        return found[..., None]

    (found,) = estimates(curves, names, numbers)
    return found


def replicates(curves: Curves, names: Sequence[str], statistic: Statistic) -> tuple[Array, Array]:
    """The statistic of the means [...], and of the means without each item in turn [items, ...]."""
    both = {name: _means_and_without(curves, name) for name in names}
    values, left = (statistic({name: pair[which] for name, pair in both.items()}) for which in (0, 1))
    return np.asarray(values, dtype=np.float64), np.asarray(left, dtype=np.float64)


def jackknife_errors(left: Array) -> Array:
    """Standard errors [...] from the values without each item [items, ...]; of a mean, its usual one."""
    count = len(left)
    return np.asarray(np.sqrt((count - 1) * left.var(axis=0)), dtype=np.float64)


def jackknife_skews(left: Array) -> Array:
    """A sixth of the values' skewness [...] from those without each item (the acceleration of Efron 1987).

    0 where nothing varies, or nothing is known.
    """
    away = left.mean(axis=0) - left
    with np.errstate(invalid="ignore"):
        found = (away**3).sum(axis=0) / 6 / (away**2).sum(axis=0) ** 1.5
    return np.asarray(np.nan_to_num(found, posinf=0, neginf=0), dtype=np.float64)


def unseen_hits_error(curves: Curves, names: Sequence[str]) -> float:
    """Standard error that ``UNSEEN_HITS`` caption words, in an image each, would make; 0 of other curves.

    A word is worth what the least recall above 0 of an image is, in the mean of those that have one.
    """
    hits = [name for name in names if name in RECALLS]
    if not hits:
        return 0.0
    recall = curves.array("recall")
    least = np.where(recall > 0, recall, np.inf).min(axis=1)
    found = least[np.isfinite(least)]
    word = float(found.mean()) if len(found) else WORD
    return math.sqrt(UNSEEN_HITS) * word / max(1, valued(curves, hits)[1])


def valued(curves: Curves, names: Sequence[str]) -> tuple[int, int]:
    """Items and images that have a value, of the curve where they are fewest."""
    items = np.array(list(curves.items.values()))
    known = [np.isfinite(curves.array(name)).any(axis=1) for name in names]
    return min(len(np.unique(items[one])) for one in known), min(int(one.sum()) for one in known)


def _means_and_without(curves: Curves, name: str) -> tuple[Array, Array]:
    """A curve's mean [L + 1], and without each item in turn [items, L + 1]; an image's NaN is left out."""
    values, member = curves.array(name), members(list(curves.items.values()))
    known = np.isfinite(values)
    belongs = (member[None] == np.arange(member.max() + 1)[:, None]).astype(np.float64)
    totals, counts = belongs @ np.where(known, values, 0.0), belongs @ known.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = totals.sum(axis=0) / counts.sum(axis=0)
        return mean, (totals.sum(axis=0) - totals) / (counts.sum(axis=0) - counts)


def percentile(value: float, resampled: Array, step: float = 0.0) -> Estimate:
    """A percentile interval from bootstrap replicates [R]: for numbers that are layers, ``step`` apart.

    A layer is no better known than to the step, however many resamples agree on it.
    """
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), float(finite.std()), step / math.sqrt(12))


def weights(items: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """How often each image is drawn in each resample [R, images]; images of an item go together.

    Rows sum to 1; NaN with fewer than ``MIN_ITEMS`` items.
    """
    member = members(items)
    count = int(member.max()) + 1
    if count < MIN_ITEMS:
        return np.full((resamples, len(items)), np.nan)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    counts = np.stack([np.bincount(row, minlength=count) for row in drawn])[:, member]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float64)


def resampled_means(curves: Curves, name: str, drawn: Array | None = None) -> Array:
    """Bootstrap replicates of a curve's mean [R, L + 1]; NaN values of an image are left out."""
    values = curves.array(name)
    if drawn is None:
        drawn = weights(list(curves.items.values()))
    known = np.isfinite(values)
    totals = drawn @ np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(totals / (drawn @ known.astype(np.float64)), dtype=np.float64)
