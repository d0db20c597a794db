"""Intervals over images: the clustered bootstrap, by items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phasebench.curves import Array, Curves

RESAMPLES = 500
LEVEL = 0.95
SEED = 0
FEWEST = 3
"""With fewer items than this there is no interval, and so no decision."""
ROUNDING = 1e-5
"""What is smaller decides nothing: it may be the rounding of float32, which is alike in every image, so that
no interval over images shows it for what it is. All numbers that are judged are of the order of 1."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval at ``LEVEL``."""

    value: float
    low: float
    high: float


def plain(value: float, digits: int) -> float | None:
    """A number as it is kept in a file: to so many significant digits, NaN as None."""
    return None if math.isnan(value) else float(f"{value:.{digits}g}")


def estimate(value: float, resampled: Array) -> Estimate:
    """A percentile interval around ``value`` from its bootstrap replicates [R]."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def weights(items: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """How often each image is drawn in each resample [R, images]; images of an item go together.

    Rows sum to 1; NaN with fewer than ``FEWEST`` items.
    """
    names = {item: k for k, item in enumerate(dict.fromkeys(items))}
    if len(names) < FEWEST:
        return np.full((resamples, len(items)), np.nan)
    member = np.array([names[item] for item in items])
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])[:, member]
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
