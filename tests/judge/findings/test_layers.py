"""Peaks of curves: measured where they were not chosen, and in words."""

from __future__ import annotations

import numpy as np
import pytest

from phasebench.curves import Curves
from phasebench.judge.findings.layers import peak_above, peak_in_words, without_layer_0
from tests.support.synthetic import curves, recalls


def test_a_peak_of_flat_noise_is_above_no_layer() -> None:
    """A peak chosen on the same images would look higher than the last layer in most samples."""
    decided, naive = 0, 0
    for seed in range(200):
        values = 0.2 + 0.05 * np.random.default_rng(seed).standard_normal((40, 41))
        (fall,) = peak_above(recalls(values), "recall", [40])
        error = (values[:, values.mean(axis=0).argmax()] - values[:, 40]).std() / np.sqrt(40)
        decided += fall.low > 0
        naive += values.mean(axis=0).max() - values.mean(axis=0)[40] > 2 * error
    assert decided <= 10  # 2.5 % would be 5
    assert naive > 40


def test_a_peak_is_measured_at_its_own_layer() -> None:
    values = np.full((40, 41), 0.1)
    values[:, 33], values[:, 40] = 0.39, 0.38
    rise, fall = peak_above(recalls(values), "recall", [10, 40])
    assert rise.value == pytest.approx(0.29)
    assert fall.value == pytest.approx(0.01)


def test_a_peak_of_one_item_has_no_interval() -> None:
    (fall,) = peak_above(recalls(np.ones((1, 5))), "recall", [4])
    assert np.isnan([fall.value, fall.low, fall.high]).all()


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        ([0.0, 0.0, 0.0], "recall is 0 at every layer, without a peak"),
        ([0.1, 0.3, 0.2], "recall peaks at layer 1 of 2 with 0.3"),
        ([0.1, 0.3, 0.3], "recall peaks at layers 1-2 alike of 2 with 0.3"),
    ],
)
def test_ties_are_named(mean: list[float], words: str) -> None:
    assert peak_in_words(np.array(mean), "recall") == words


def test_curves_without_layer_0_begin_one_layer_later() -> None:
    measured = curves({"inter": np.arange(5.0)}, images=3)
    later = without_layer_0(measured)
    assert isinstance(later, Curves)
    assert later.last == 3
    assert later.mean("inter").tolist() == [1, 2, 3, 4]
    assert later.items == measured.items
