"""Arithmetic that findings share: means over layers fixed beforehand, and the layers of largest values.

Relative depth is the layer's number divided by the last one's, L. Leading axes [...] are replicates.
"""

from __future__ import annotations

import numpy as np

from phasebench.curves import Array, known_mean
from phasebench.judge.statistics import SEED, Estimate

NEAR = 0.1
"""Largest distance, in relative depth, of two layers that count as near each other."""


def mean_between(curve: Array, start: float, end: float) -> Array:
    """Mean over the layers from depth ``start`` up to before depth ``end`` [...]; layer 0 is left out."""
    depth = np.arange(curve.shape[-1]) / (curve.shape[-1] - 1)
    is_between = (depth > 0) & (depth >= start) & (depth < end)
    return known_mean(curve[..., is_between], axis=-1)


def mean_near(curve: Array, depth: float) -> Array:
    """Mean over the layers within ``NEAR`` of ``depth`` [...]; if there is none, over the nearest."""
    distance = np.abs(np.arange(curve.shape[-1]) / (curve.shape[-1] - 1) - depth)
    distance = distance.round(9)  # some layers lie on the edge
    is_near = distance <= max(NEAR, distance.min())
    return np.asarray(curve[..., is_near].mean(axis=-1), dtype=np.float64)


def largest_layers(resamples: Array) -> Array:
    """The layer of each resample's largest value [R]; NaN where it has no value.

    Among equal values one is drawn at random, so that a flat curve (nothing is decoded) has no fixed peak.
    """
    has_value = np.isfinite(resamples).any(axis=1)
    values = np.where(np.isfinite(resamples), resamples, -np.inf)
    is_largest = values == values.max(axis=1, keepdims=True)
    draws = np.random.default_rng(SEED).random(values.shape)
    return np.where(has_value, np.where(is_largest, draws, -1.0).argmax(axis=1).astype(np.float64), np.nan)


def nearness(depth: Estimate, target: float, near: float) -> Estimate:
    """``near`` minus the distance of ``depth`` to ``target``: above 0 if ``depth`` is near."""
    distances = sorted(abs(end - target) for end in (depth.low, depth.high))
    smallest = 0.0 if depth.low <= target <= depth.high else distances[0]
    value = near - abs(depth.value - target)
    return Estimate(value, near - distances[1], near - smallest, depth.error, depth.fixed)


def layer_ranges(layers: list[int]) -> str:
    """``[1, 2, 3, 7]`` -> ``1-3, 7``."""
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
