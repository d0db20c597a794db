"""Every finding on odd curves: no value lies outside its interval, and no text says nan."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.curves import Array, Curves
from phasebench.judge.findings.finding import FINDINGS, Evidence
from phasebench.judge.findings.verdict import Verdict

LAYERS = 13


def rows(kind: str, name: str, images: int, rng: np.random.Generator) -> Array:
    """An image's values of one curve [images, L + 1]."""
    shape = (images, LAYERS)
    if kind == "zero":
        return np.zeros(shape)
    if kind == "equal":
        return np.full(shape, 0.3)
    if kind == "noise":
        return np.asarray(rng.standard_normal(shape))
    if kind == "words":  # a word here and there, as in recall
        return np.where(rng.random(shape) < 0.03, 0.25, 0.0)
    values = rng.standard_normal((1, LAYERS)).cumsum(axis=1) + 0.1 * rng.standard_normal(shape)
    if kind == "gaps":
        values[rng.random(images) < 0.5] = np.nan
        values[0] = 1.0
    return values


def odd_curves(kind: str, images: int, seed: int) -> Curves:
    rng = np.random.default_rng(seed)
    arrays = {name: rows(kind, name, images, rng) for name in CURVES}
    return Curves.from_arrays(arrays, {str(k): str(k // (1 + seed % 2)) for k in range(images)})


def assert_inside(value: float, low: float, high: float) -> None:
    if math.isfinite(low):
        assert low <= value <= high


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("kind", ["zero", "equal", "noise", "words", "walk", "gaps"])
@pytest.mark.parametrize("images", [1, 2, 3, 8, 40])
def test_a_value_lies_within_its_interval(finding: str, kind: str, images: int) -> None:
    for seed in range(2):
        measured, control = odd_curves(kind, images, seed), odd_curves(kind, images, seed + 10)
        result: Verdict = FINDINGS[finding].verdict(Evidence(measured, {"blank": control}))
        assert_inside(result.value, result.low, result.high)
        for contrast in result.controls:
            difference = contrast.difference
            assert_inside(difference.value, difference.low, difference.high)
        assert "nan" not in result.detail
