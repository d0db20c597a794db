"""Arithmetic that findings share: means over layers fixed beforehand, and the layers of largest values.

Relative depth is the layer's number divided by the last one's, L. Leading axes [...] are replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phasebench.curves import Array, Curves, known_mean, members
from phasebench.judge.statistics import (
    ROUNDING,
    SEED,
    Estimate,
    estimates,
    student_estimate,
    unseen_hits_error,
)

NEAR = 0.1
"""Largest distance, in relative depth, of two layers that count as near each other."""


def near_limit(last: int) -> float:
    """The largest distance in relative depth that counts as near; a layer exactly at ``NEAR`` is near."""
    return NEAR + 0.5 / last + 2 * ROUNDING


def without_layer_0(curves: Curves) -> Curves:
    """The same curves from layer 1 on, which becomes layer 0."""
    arrays = {name: curves.array(name)[:, 1:] for name in curves.names}
    return replace(Curves.from_arrays(arrays, curves.items, curves.provenance), contents=curves.contents)


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


def peak_above(curves: Curves, name: str, layers: Sequence[int]) -> list[Estimate]:
    """A curve's value at its peak minus that at each of ``layers``, with intervals over items.

    The peak is chosen on one half of the items and measured on the other, both ways: on the same items it
    would look higher than it is. For curves that count caption words.
    """
    values, half = curves.array(name), members(list(curves.items.values())) % 2
    peaks = [largest_layers(known_mean(values[half != side])[None])[0] for side in (0, 1)]
    if not np.isfinite(peaks).all():
        return [Estimate(math.nan, math.nan, math.nan) for _ in layers]
    at_peak = values[np.arange(len(values)), np.array(peaks, dtype=int)[half]]
    margins = Curves.from_arrays({"margin": at_peak[:, None] - values[:, list(layers)]}, curves.items)
    hits_error = unseen_hits_error(curves, (name,))
    return [
        student_estimate(margin.value, math.hypot(margin.error, hits_error), margin.items, margin.images)
        for margin in estimates(margins, ("margin",), lambda means: means["margin"])
    ]


def peak_in_words(mean: Array, noun: str) -> str:
    """Where a curve [L + 1] is largest; layers that share the largest value are all named."""
    largest, last = np.nanmax(mean), len(mean) - 1
    layers = np.flatnonzero(mean >= largest - ROUNDING).tolist()
    if len(layers) > last:
        return f"{noun} is {largest:.3g} at every layer, without a peak"
    where = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layer_ranges(layers)} alike"
    return f"{noun} peaks at {where} of {last} with {largest:.3g}"


def interval_in_words(estimate: Estimate, digits: int = 3) -> str:
    """`` [0.1, 0.14]`` with a space before it; empty without an interval."""
    if math.isnan(estimate.low):
        return ""
    return f" [{estimate.low:.{digits}g}, {estimate.high:.{digits}g}]"


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
