"""Drift: a measured curve against a recorded one, layer by layer.

Images that both have are compared each with itself. Of the same checkpoint only numerical noise may
differ (``judge.tolerance``); of another (``--against``) more is let through, in standard deviations
over images, and the interval of the difference must exclude it. Without a common image the sampling
error of both sides is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from phasebench.catalog import CURVES
from phasebench.curves import Array, known_mean, members
from phasebench.judge.drift.provenance import notes as provenance_notes
from phasebench.judge.drift.record import DIGITS, Record, column, deviation, item_of, rows
from phasebench.judge.drift.tolerance import Spread, Tolerances
from phasebench.judge.statistics import MIN_ITEMS, plain

LEVEL = 0.01
"""Chance of a false alarm of a model on a dataset, where sampling error counts: over all curves and layers
(Bonferroni; they move together, so that it is less in truth)."""
OTHERS = "compared with other images or captions, within the sampling error of both"


@dataclass(frozen=True)
class Difference:
    """How a measured curve differs from the recorded one; all arrays are per layer [L + 1].

    Attributes:
        curve: its name.
        recorded, measured: means over the images compared; NaN where a curve has no value.
        allowed: difference of the means that is let through, half-width included.
        half_width: of the interval of the difference, corrected for the number of layers; 0 where only
            noise may differ.
        rms_excess: root mean square over images of the difference, in what is allowed of it; 0 where
            images are not held to be equal.
        spread: standard deviation over the recorded images.
        shared, images: how many images both have, and the one that has more; without shared ones, others
            were compared.
        layer_counts: layers of the two where they differ; nothing is compared then.
        notes: what else differs.
    """

    curve: str
    recorded: Array
    measured: Array
    allowed: Array
    half_width: Array
    rms_excess: Array
    spread: Array
    shared: int
    images: int
    layer_counts: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def excess(self) -> Array:
        """Size of the difference in what is allowed; above 1 is drift.

        NaN where both are undefined, infinite where one is or where the numbers of layers differ.
        """
        if self.layer_counts:
            return np.full(len(self.measured), np.inf)
        size = np.abs(self.measured - self.recorded) / self.allowed
        one_sided = np.isnan(self.measured) != np.isnan(self.recorded)
        return np.asarray(np.where(one_sided, np.inf, np.maximum(size, self.rms_excess)), dtype=np.float64)

    @property
    def effect(self) -> Array:
        """The difference in standard deviations over the recorded images (Glass's delta)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.measured - self.recorded) / self.spread, dtype=np.float64)

    @property
    def decidable(self) -> bool:
        """Whether any layer could drift: of fewer than ``MIN_ITEMS`` items there is no interval."""
        known = np.isfinite(self.measured) & np.isfinite(self.recorded)
        return bool(self.layer_counts or not known.any() or np.isfinite(self.allowed[known]).any())

    @property
    def drifted(self) -> list[int]:
        """Layers past what is allowed, worst first."""
        excess = np.nan_to_num(self.excess, nan=0.0, posinf=np.inf)
        order = np.argsort(-excess, kind="stable")
        return [int(layer) for layer in order if excess[layer] > 1]

    @property
    def worst(self) -> int:
        """The layer that differs most, in what is allowed."""
        return int(np.nan_to_num(self.excess, nan=-1.0, posinf=np.finfo(float).max).argmax())

    def describe(self) -> list[str]:
        """The verdict, the three worst layers, and all that else differs, a line each; none without drift."""
        if self.layer_counts:
            before, after = self.layer_counts
            return [f"{self.curve}: recorded with {before} layers, measured with {after}", *self.notes]
        where = self.drifted
        if not where:
            return []
        drifted = f"drifted at {len(where)} of {len(self.recorded)} layers; worst at layer {where[0]}"
        return [f"{self.curve} {drifted}", *map(self._layer, where[:3]), *self.notes]

    def _layer(self, layer: int) -> str:
        old, new = self.recorded[layer], self.measured[layer]
        change, allowed = abs(new - old), self.allowed[layer]
        numbers = f"layer {layer:3d}: {old:.5g} -> {new:.5g}"
        if np.isinf(self.excess[layer]):
            return f"{numbers}: images that had a value have none, or the other way round"
        if self.rms_excess[layer] > change / allowed:
            return f"{numbers}: single images differ by {self.rms_excess[layer]:.2g} times what noise may do"
        if self.half_width[layer]:
            low, high = new - old - self.half_width[layer], new - old + self.half_width[layer]
            effect = f", {self.effect[layer]:+.2g} sd" if np.isfinite(self.effect[layer]) else ""
            return f"{numbers} ({new - old:+.2g} [{low:.2g}, {high:.2g}]{effect})"
        return f"{numbers} ({new - old:+.2g}; allowed {allowed:.2g}, {change / allowed:.2g} times)"


def as_entry(difference: Difference) -> dict[str, Any]:
    """A difference as plain data, at the layer that differs most in what is allowed."""
    layer = difference.worst
    excess, change = float(difference.excess[layer]), _at(difference.measured - difference.recorded, layer)
    half = _at(difference.half_width, layer)
    ends = (None, None) if change is None or half is None else (change - half, change + half)
    return {
        "curve": difference.curve,
        "layer": layer,
        "excess": 0.0 if math.isnan(excess) else plain(excess, DIGITS),
        "recorded": _at(difference.recorded, layer),
        "measured": _at(difference.measured, layer),
        "low": ends[0],
        "high": ends[1],
        "effect": None if difference.layer_counts else plain(float(difference.effect[layer]), 6),
        "shared": difference.shared,
        "images": difference.images,
        "told": difference.describe(),
    }


def _at(values: Array, layer: int) -> float | None:
    return plain(float(values[layer]), DIGITS)


def compare(
    recorded: Record, measured: Record, tolerances: Tolerances, effect: float | None = None
) -> Difference:
    """The difference of two records of one curve.

    ``tolerances`` say what numerical noise may do between their dtypes. With ``effect`` the measured
    checkpoint is another: differences of so many standard deviations over the recorded images are let
    through, and the interval of the difference decides.

    Raises:
        InputError: there is no tolerance for these dtypes.
    """
    layer_counts = len(recorded["layers"]) - 1, len(measured["layers"]) - 1
    if layer_counts[0] != layer_counts[1]:
        blank = np.full(layer_counts[1] + 1, np.nan)
        return Difference(
            curve=measured["curve"],
            recorded=blank,
            measured=blank,
            allowed=blank,
            half_width=blank,
            rms_excess=blank,
            spread=blank,
            shared=0,
            images=_larger_sample(recorded, measured),
            layer_counts=layer_counts,
            notes=provenance_notes(recorded["provenance"], measured["provenance"]),
        )
    shared = [key for key in measured["images"] if key in recorded["images"]]
    items = {item_of(key, measured["curve"]) for key in shared}
    if len(items) >= (1 if effect is None else MIN_ITEMS):
        return _of_images(recorded, measured, shared, tolerances, effect)
    return _of_samples(recorded, measured, tolerances, effect)


def _of_images(
    recorded: Record, measured: Record, shared: Sequence[str], tolerances: Tolerances, effect: float | None
) -> Difference:
    """Each image with itself; against another model on the images that have a value in both."""
    name, notes = measured["curve"], provenance_notes(recorded["provenance"], measured["provenance"])
    before, after = rows(recorded, shared), rows(measured, shared)
    change = after - before
    if effect is not None:
        paired = np.isfinite(change) | ~np.isfinite(change).any(axis=0)
        before, after = (np.where(paired, values, np.nan) for values in (before, after))
    old, new, spread = known_mean(before), known_mean(after), deviation(before)
    noise, rms_noise = _noise(recorded, measured, tolerances, old, np.isfinite(change).sum(axis=0))
    if effect is None:
        half_width, rms_excess = np.zeros_like(old), np.sqrt(known_mean(change**2)) / rms_noise
        rms_excess[(np.isnan(before) != np.isnan(after)).any(axis=0)] = np.inf
        allowed = noise
    else:
        half_width = _half_width(change, [item_of(key, name) for key in shared])
        rms_excess = np.zeros_like(old)
        allowed = noise + effect * np.nan_to_num(spread) + half_width
    images = _larger_sample(recorded, measured)
    if len(shared) < images:
        notes = (f"compared on the {len(shared)} images that both have", *notes)
    return Difference(
        curve=name,
        recorded=old,
        measured=new,
        allowed=allowed,
        half_width=half_width,
        rms_excess=rms_excess,
        spread=spread,
        shared=len(shared),
        images=images,
        notes=notes,
    )


def _of_samples(
    recorded: Record, measured: Record, tolerances: Tolerances, effect: float | None
) -> Difference:
    """Two samples of images, within the sampling error of both."""
    name, old, new = measured["curve"], column(recorded, "mean"), column(measured, "mean")
    images = np.minimum(column(recorded, "n"), column(measured, "n"))
    noise, _ = _noise(recorded, measured, tolerances, old, images)
    items = np.minimum(_items(recorded, name), _items(measured, name))
    errors = np.nan_to_num(np.hypot(column(recorded, "se"), column(measured, "se")), nan=np.inf)
    half_width = _quantile(len(old), items) * np.where(items < MIN_ITEMS, np.inf, errors)
    spread = deviation(rows(recorded, list(recorded["images"])))
    return Difference(
        curve=name,
        recorded=old,
        measured=new,
        allowed=noise + (effect or 0.0) * np.nan_to_num(spread) + half_width,
        half_width=half_width,
        rms_excess=np.zeros_like(old),
        spread=spread,
        shared=0,
        images=_larger_sample(recorded, measured),
        notes=(OTHERS, *provenance_notes(recorded["provenance"], measured["provenance"])),
    )


def _larger_sample(recorded: Record, measured: Record) -> int:
    return max(len(recorded["images"]), len(measured["images"]))


def _noise(
    recorded: Record, measured: Record, tolerances: Tolerances, level: Array, images: Array
) -> tuple[Array, Array]:
    """What noise may do to a mean over so many ``images``, and to their root mean square [L + 1] each."""
    dtypes = (str(one["provenance"].get("dtype")) for one in (recorded, measured))
    known = any(np.isfinite(column(one, "mean")).any() for one in (recorded, measured))
    # Nothing is calibrated of a curve that a model does not have; that it has none still is compared.
    seen = tolerances.between(measured["curve"], *dtypes) if known else Spread()
    return seen.allowed(measured["curve"], level, images)


def _quantile(layers: int, count: Array) -> Array:
    """Of Student's t, both sides, for one of all curves and layers [L + 1]."""
    return np.asarray(t.isf(LEVEL / 2 / layers / len(CURVES), np.maximum(1, count - 1)), dtype=np.float64)


def _items(recorded: Record, name: str) -> Array:
    """How many items have a value at each layer [L + 1]."""
    keys = list(recorded["images"])
    member, known = members([item_of(key, name) for key in keys]), np.isfinite(rows(recorded, keys))
    counted = [known[member == k].any(axis=0) for k in range(member.max() + 1)]
    return np.asarray(np.sum(counted, axis=0), dtype=np.float64)


def _half_width(change: Array, items: Sequence[str]) -> Array:
    """Half-width of the interval of the mean difference, images of an item taken together [L + 1]."""
    member = members(items)
    means = np.stack([known_mean(change[member == k]) for k in range(member.max() + 1)])
    count = np.maximum(1, np.isfinite(means).sum(axis=0))
    quantile = _quantile(change.shape[1], count)
    return np.asarray(quantile * np.nan_to_num(deviation(means), nan=np.inf) / np.sqrt(count))
