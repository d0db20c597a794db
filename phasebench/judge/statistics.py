"""Intervals over images: Student's t on a jackknife by items; the bootstrap where a number is a layer.

If the items' values are skewed, Student's t misses the truth on one side more often than on the other. A
verdict depends on one side, so the end on the long tail's side is moved outwards.

Images of one item are not independent, so the jackknife leaves out whole items and the bootstrap draws whole
items. ``docs/statistics.md`` has the coverage of each interval in simulations.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit

from phasebench.catalog import OF_CAPTIONS, WORD
from phasebench.curves import Array, Curves, members
from phasebench.errors import InputError

RESAMPLES = 500
LEVEL = 0.95
UP, DOWN = 1, -1
"""The two ends of an interval."""
SEED = 0
MIN_ITEMS = 3
"""With fewer items there is no interval, and so no decision."""
MAX_IMAGES_FACTOR = 1000
"""Largest recommended number of images, as a multiple of the measured ones."""
ROUNDING = 1e-5
"""Smaller differences decide nothing. They may be float32's rounding, which is the same in every image, so
that no interval over images includes it. All judged numbers are of the order of 1."""
UNSEEN_HITS = 2
"""Caption words that an interval of recall allows for in addition to the hits in its images: with few hits
their scatter is too small, with none there is no scatter. Agresti and Coull (1998) add as many hits to the
interval of a share."""

Means = Mapping[str, Array]
"""Curve name -> its mean [L + 1], or replicates of it [R, L + 1]."""
Statistic = Callable[[Means], Array]
"""A function from means to numbers [...], or from replicates of them to numbers for each [R, ...]."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value, low, high: the value and the interval's ends; NaN if there are too few items.
        error: standard error over items, ``unseen_hits_error`` included; it shrinks with more images.
        fixed: standard deviation that does not shrink with more images.
        skew: a sixth of the value's skewness over samples; above 0 with a long upper tail.
        items, images: how many it is computed from, for the curve with the fewest values; 0 items if the
            ends are not from Student's t.
        level: the interval's level.
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
        """Distance of the value from the end on a side, corrected for ``count`` such ends (Bonferroni).

        It is Student's t. The end on the long tail's side lies further out, by the first term of Edgeworth's
        expansion (Hall 1992, On the removal of skewness by transformation). The end on the short tail's side
        is not moved inwards, because the skewness of few items is uncertain. NaN without an error.
        """
        share = 1 - (1 - self.level) / 2 / count
        quantile = float(stdtrit(self.items - 1, share) if self.items > 1 else ndtri(share))
        skew_quantile = max(0.0, side * self.skew) * (2 * quantile**2 + 1)
        return quantile * math.hypot(self.error, self.fixed) + skew_quantile * self.error

    def with_images(self, images: int) -> Estimate:
        """The estimate from so many images, if the value stayed the same; its ends are not updated."""
        factor = images / self.images
        error, skew = self.error / math.sqrt(factor), self.skew / math.sqrt(factor)
        return replace(self, error=error, skew=skew, items=round(self.items * factor), images=images)

    def corrected(self, count: int) -> Estimate:
        """The estimate with its upper end corrected for ``count`` such ends (Bonferroni)."""
        if self.items < MIN_ITEMS:
            return self
        return replace(self, high=self.value + self.half_width(UP, count))


def images_to_decide(images: int, decides: Callable[[int], bool]) -> int | None:
    """The smallest number of images above ``images`` that decides.

    None if even ``MAX_IMAGES_FACTOR`` times as many do not. ``decides`` returns whether a number of images
    does; if it does, so do all larger numbers.
    """
    if not decides(MAX_IMAGES_FACTOR * images):
        return None
    return bisect_left(range(MAX_IMAGES_FACTOR * images), True, images + 1, key=decides)


def rounded_number(value: float, digits: int) -> float | None:
    """A number as files have it: with so many significant digits; NaN and infinity as None."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def student_estimate(
    value: float,
    error: float,
    items: int,
    images: int,
    *,
    fixed: float = 0.0,
    level: float = LEVEL,
    skew: float = 0.0,
) -> Estimate:
    """An estimate with the ends from ``half_width``; NaN ends from fewer than ``MIN_ITEMS`` items."""
    without_ends = Estimate(value, math.nan, math.nan, error, fixed, items, images, level, skew)
    if items < MIN_ITEMS:
        return without_ends
    low, high = value - without_ends.half_width(DOWN), value + without_ends.half_width(UP)
    return replace(without_ends, low=low, high=high)


def estimates(
    curves: Curves, names: Sequence[str], statistic: Statistic, *, fixed: float = 0.0, level: float = LEVEL
) -> list[Estimate]:
    """Each number of a smooth statistic of the curves' means [K], with its interval over items."""
    values, without_items = replicates(curves, names, statistic)
    items, images = sample_size(curves, names)
    hits_error = unseen_hits_error(curves, names)
    errors = np.hypot(jackknife_errors(without_items), hits_error)
    skews = np.zeros_like(errors) if hits_error else jackknife_skews(without_items)
    return [
        student_estimate(value, error, items, images, fixed=fixed, level=level, skew=skew)
        for value, error, skew in zip(values.tolist(), errors.tolist(), skews.tolist(), strict=True)
    ]


def estimate(curves: Curves, names: Sequence[str], statistic: Statistic) -> Estimate:
    """The single number of a smooth statistic of the curves' means, with its interval over items.

    Raises:
        InputError: the statistic does not return one number for each set of means, for example with ``[3]``
            instead of ``[..., 3]``.
    """

    def numbers(means: Means) -> Array:
        result, expected_shape = np.asarray(statistic(means)), means[names[0]].shape[:-1]
        if result.shape != expected_shape:
            raise InputError(
                f"estimate: of means of shape {(*expected_shape, 'layers')} its function gives "
                f"{result.shape}, not {expected_shape}; layers are the last axis, so that layer 3 is [..., 3]"
            )
        return result[..., None]

    (single_estimate,) = estimates(curves, names, numbers)
    return single_estimate


def replicates(curves: Curves, names: Sequence[str], statistic: Statistic) -> tuple[Array, Array]:
    """The statistic of the means [...], and of the means without each item in turn [items, ...]."""
    pairs = {name: _jackknife_means(curves, name) for name in names}
    values, without_items = (
        statistic({name: pair[index] for name, pair in pairs.items()}) for index in (0, 1)
    )
    return np.asarray(values, dtype=np.float64), np.asarray(without_items, dtype=np.float64)


def jackknife_errors(without_items: Array) -> Array:
    """Standard errors [...] from the values without each item [items, ...]; for a mean, the usual one."""
    count = len(without_items)
    return np.asarray(np.sqrt((count - 1) * without_items.var(axis=0)), dtype=np.float64)


def jackknife_skews(without_items: Array) -> Array:
    """A sixth of the values' skewness [...] (the acceleration of Efron 1987).

    It is computed from the values without each item [items, ...]; 0 if they do not vary or are not finite.
    """
    deviations = without_items.mean(axis=0) - without_items
    with np.errstate(invalid="ignore"):
        skews = (deviations**3).sum(axis=0) / 6 / (deviations**2).sum(axis=0) ** 1.5
    return np.asarray(np.nan_to_num(skews, posinf=0, neginf=0), dtype=np.float64)


def unseen_hits_error(curves: Curves, names: Sequence[str]) -> float:
    """The standard error from ``UNSEEN_HITS`` more caption words, each in another image.

    It is 0 for curves that do not depend on captions. A word adds the smallest recall above 0 of an image,
    averaged over the images that have one.
    """
    hits = [name for name in names if name in OF_CAPTIONS]
    if not hits:
        return 0.0
    recall = curves.array("recall")
    smallest = np.where(recall > 0, recall, np.inf).min(axis=1)
    words = smallest[np.isfinite(smallest)]
    word = float(words.mean()) if len(words) else WORD
    return math.sqrt(UNSEEN_HITS) * word / max(1, sample_size(curves, hits)[1])


def sample_size(curves: Curves, names: Sequence[str]) -> tuple[int, int]:
    """How many items and how many images have a value, for the curve with the fewest."""
    items = np.array(list(curves.items.values()))
    masks = [np.isfinite(curves.array(name)).any(axis=1) for name in names]
    return min(len(np.unique(items[mask])) for mask in masks), min(int(mask.sum()) for mask in masks)


def _jackknife_means(curves: Curves, name: str) -> tuple[Array, Array]:
    """A curve's mean [L + 1], and without each item in turn [items, L + 1]; an image's NaN is left out."""
    values, member = curves.array(name), members(list(curves.items.values()))
    is_finite = np.isfinite(values)
    membership = (member[None] == np.arange(member.max() + 1)[:, None]).astype(np.float64)
    totals = membership @ np.where(is_finite, values, 0.0)
    counts = membership @ is_finite.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = totals.sum(axis=0) / counts.sum(axis=0)
        return mean, (totals.sum(axis=0) - totals) / (counts.sum(axis=0) - counts)


def percentile_estimate(value: float, resampled: Array, step: float = 0.0) -> Estimate:
    """An estimate with a percentile interval from bootstrap replicates [R].

    It is for numbers that are layers, ``step`` apart: a layer is uncertain by the step, however many
    resamples agree on it. The interval is widened to the value if no resample reaches it.
    """
    finite_values = resampled[np.isfinite(resampled)]
    if not len(finite_values):
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(finite_values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ends = float(min(low, value)), float(max(high, value))
    return Estimate(float(value), *ends, float(finite_values.std()), step / math.sqrt(12))


def bootstrap_weights(items: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """The weight of each image in each resample [R, images]; images of an item are drawn together.

    Rows sum to 1; NaN with fewer than ``MIN_ITEMS`` items.
    """
    member = members(items)
    count = int(member.max()) + 1
    if count < MIN_ITEMS:
        return np.full((resamples, len(items)), np.nan)
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    counts = np.stack([np.bincount(row, minlength=count) for row in draws])[:, member]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float64)


def resampled_means(curves: Curves, name: str, weights: Array | None = None) -> Array:
    """Bootstrap replicates of a curve's mean [R, L + 1]; NaN values of an image are left out.

    ``weights`` are from ``bootstrap_weights`` [R, images]; by default those for the curves' items.
    """
    values = curves.array(name)
    if weights is None:
        weights = bootstrap_weights(list(curves.items.values()))
    is_finite = np.isfinite(values)
    totals = weights @ np.where(is_finite, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(totals / (weights @ is_finite.astype(np.float64)), dtype=np.float64)
