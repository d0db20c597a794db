"""Drift: a measured curve against a recorded one, layer by layer.

Of the same images and checkpoint only numerical noise may differ, so the tolerance is tight: one
per kind of curve and dtype, in ``tolerances.json``. Of other images the sampling error is added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from phasebench.curves import Array, Curves
from phasebench.judge.statistics import plain

TOLERANCES = Path(__file__).parent / "tolerances.json"
DIGITS = 9
"""Significant digits recorded: what a float32 needs to be read back as it was."""
LEVEL = 0.05
"""Chance of a false alarm per curve, over all its layers, when the images differ."""
TELLING = (
    "checkpoint",
    "data",
    "images",
    "prompt",
    "layout",
    "lens_norm",
    "dtype",
    "device",
    "torch",
    "transformers",
)
"""Provenance whose difference is named beside a drift."""

Record = dict[str, Any]


def record(curves: Curves, name: str) -> Record:
    """A curve as it is kept: mean, standard error and n per layer, and its provenance."""
    table = curves.summary(name)
    layers = [
        {
            "layer": layer,
            "mean": plain(row["mean"], DIGITS),
            "se": plain(row["se"], DIGITS),
            "n": int(row["n"]),
        }
        for layer, (_, row) in enumerate(table.iterrows())
    ]
    return {"curve": name, "layers": layers, "provenance": dict(curves.provenance)}


@dataclass(frozen=True)
class Difference:
    """How a measured curve differs from the recorded one.

    Attributes:
        curve: its name.
        recorded, measured, allowed: per layer [L + 1]; NaN where a curve has no value.
        notes: what else differs: provenance, length.
        same_images: whether both were measured on the same images.
    """

    curve: str
    recorded: Array
    measured: Array
    allowed: Array
    notes: tuple[str, ...] = ()
    same_images: bool = True

    @property
    def excess(self) -> Array:
        """Size of the difference in tolerances, per layer; above 1 is drift.

        NaN where both are undefined, infinite where one is or where the lengths differ.
        """
        if len(self.recorded) != len(self.measured):
            return np.full(len(self.measured), np.inf)
        size = np.abs(self.measured - self.recorded) / self.allowed
        one_sided = np.isnan(self.measured) != np.isnan(self.recorded)
        return np.asarray(np.where(one_sided, np.inf, size), dtype=np.float64)

    @property
    def drifted(self) -> list[int]:
        """Layers past the tolerance, worst first."""
        excess = np.nan_to_num(self.excess, nan=0.0, posinf=np.inf)
        order = np.argsort(-excess, kind="stable")
        return [int(layer) for layer in order if excess[layer] > 1]

    @property
    def worst(self) -> int:
        """The layer that differs most, in tolerances."""
        return int(np.nan_to_num(self.excess, nan=-1.0, posinf=np.finfo(float).max).argmax())

    def told(self) -> list[str]:
        """At most seven lines: the verdict, the worst layers, what else differs; none without drift."""
        if len(self.recorded) != len(self.measured):
            return [f"{self.curve}: {self.notes[0]}"]
        where = self.drifted
        if not where:
            return []
        lines = [
            f"{self.curve} drifted at {len(where)} of {len(self.recorded)} layers; worst at layer {where[0]}"
        ]
        for layer in where[:3]:
            old, new = self.recorded[layer], self.measured[layer]
            change = f"{new - old:+.2g}; allowed {self.allowed[layer]:.2g}"
            lines.append(f"layer {layer:3d}: {old:.5g} -> {new:.5g} ({change})")
        return [*lines, *self.notes[:3]]


def entry(difference: Difference) -> dict[str, Any]:
    """A difference as plain data, at the layer that differs most in tolerances."""
    layer = difference.worst
    excess = float(difference.excess[layer])
    return {
        "curve": difference.curve,
        "layer": layer,
        "excess": excess if math.isfinite(excess) else None,
        "recorded": _at(difference.recorded, layer),
        "measured": _at(difference.measured, layer),
        "same_images": difference.same_images,
        "told": difference.told(),
    }


def columns(recorded: Record) -> dict[str, list[float | None]]:
    """A recorded curve by columns: layer, mean, se, n."""
    return {key: [layer[key] for layer in recorded["layers"]] for key in ("layer", "mean", "se", "n")}


def _at(values: Array, layer: int) -> float | None:
    return plain(float(values[layer]), DIGITS) if layer < len(values) else None


def compare(recorded: Record, measured: Record) -> Difference:
    """The difference of two records of one curve."""
    old, new = _values(recorded, "mean"), _values(measured, "mean")
    notes = _provenance_notes(recorded["provenance"], measured["provenance"])
    if len(old) != len(new):
        notes = (f"recorded with {len(old) - 1} layers, measured with {len(new) - 1}", *notes)
        return Difference(measured["curve"], old, new, np.full(len(new), np.nan), notes)
    same = recorded["provenance"].get("data") == measured["provenance"].get("data")
    return Difference(measured["curve"], old, new, _allowed(recorded, measured, old), notes, same)


def _allowed(recorded: Record, measured: Record, old: Array) -> Array:
    before, after = recorded["provenance"], measured["provenance"]
    images = np.maximum(1, np.minimum(_values(recorded, "n"), _values(measured, "n")))
    sides = [_tolerance(str(side.get("dtype")), measured["curve"]) for side in (before, after)]
    allowed = np.max([a + relative * np.abs(old) + flip / images for a, relative, flip in sides], axis=0)
    if before.get("data") != after.get("data"):
        quantile = t.isf(LEVEL / 2 / len(old), np.maximum(1, images - 1))
        errors = np.hypot(_values(recorded, "se"), _values(measured, "se"))
        allowed = allowed + quantile * np.nan_to_num(errors, nan=np.inf)
    return np.asarray(allowed, dtype=np.float64)


@cache
def _tolerances() -> dict[str, dict[str, tuple[float, float, float]]]:
    tolerances: dict[str, dict[str, tuple[float, float, float]]] = json.loads(
        TOLERANCES.read_text(encoding="utf-8")
    )["tolerances"]
    return tolerances


def _tolerance(dtype: str, curve: str) -> tuple[float, float, float]:
    """Absolute, relative, and per image (a flip in one of them); an unknown dtype has the loosest."""
    by_dtype = _tolerances()
    known = by_dtype.get(dtype, by_dtype["bfloat16"])
    return known.get(curve, known["default"])


def _values(one: Record, key: str) -> Array:
    values = [layer[key] for layer in one["layers"]]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _provenance_notes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """One line a field that differs, layout first in words."""
    differing = [key for key in TELLING if before.get(key) != after.get(key)]
    return tuple(f"{key} differs: {before.get(key)} recorded, {after.get(key)} now" for key in differing)
