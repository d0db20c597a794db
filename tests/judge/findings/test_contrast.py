"""A finding's number against its controls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phasebench.curves import Array, Curves
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import FINDINGS, Evidence
from phasebench.judge.statistics import Estimate, Means
from tests.support.synthetic import FOUR, curves

IMAGES = 40


def flat_curves(level: float, spread: float = 0.1, images: int = IMAGES, seed: int = 0) -> Curves:
    """A flat curve at ``level``; images differ by ``spread``."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=(images, 1))
    items = {str(index): str(index) for index in range(images)}
    return Curves.from_arrays({"inter": level + noise + np.zeros(5)}, items)


def last_layer(means: Means) -> Array:
    return means["inter"][..., -1]


def contrast_with(measured: Curves, control: Curves) -> Contrast:
    (contrast,) = contrasts(measured, {"blank": control}, ("inter",), last_layer)
    return contrast


def test_a_number_far_from_its_control_differs() -> None:
    contrast = contrast_with(flat_curves(0.5), flat_curves(0.2, images=1))
    assert contrast.differs
    assert contrast.difference.value == pytest.approx(0.3, abs=0.1)
    assert contrast.difference.low < contrast.difference.value < contrast.difference.high


def test_a_number_equal_to_its_control_does_not_differ() -> None:
    measured = flat_curves(0.5)
    same = float(measured.mean("inter")[-1])
    contrast = contrast_with(measured, flat_curves(same, spread=0, images=1))
    assert contrast.differs is False
    assert contrast.value == pytest.approx(same)


def test_the_spread_of_the_control_widens_the_interval() -> None:
    fixed = contrast_with(flat_curves(0.5), flat_curves(0.2, images=1)).difference
    spread = contrast_with(flat_curves(0.5), flat_curves(0.2, seed=1)).difference
    assert spread.high - spread.low > 1.1 * (fixed.high - fixed.low)


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    difference = contrast_with(flat_curves(0.5), flat_curves(0.2, spread=0, images=1)).difference
    error = flat_curves(0.5).summary("inter")["se"].iloc[-1]
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_leave_it_undecided(images: int) -> None:
    contrast = contrast_with(flat_curves(0.5, images=images), flat_curves(0.2, images=1))
    assert contrast.differs is None
    assert contrast.as_dict()["low"] is None


def test_images_that_the_control_has_are_compared_with_themselves() -> None:
    """Controls on request measure the first images only: more measured ones must not blur the difference."""
    measured = flat_curves(0.5, images=60)
    names = list(measured.items)[:24]
    lower = Curves.from_arrays({"inter": measured.array("inter")[:24] - 0.03}, {name: name for name in names})
    contrast = contrast_with(measured, lower)
    assert contrast.difference.value == pytest.approx(0.03)
    assert contrast.difference.high - contrast.difference.low < 1e-9
    assert contrast.difference.items == 24
    assert contrast.differs


def test_a_control_without_the_curve_is_left_out() -> None:
    bare = Curves.from_arrays({"recall": np.zeros((1, 5))}, {"blank": "blank"})
    assert contrasts(flat_curves(0.5), {"blank": bare}, ("inter",), last_layer) == ()


def test_a_contrast_is_plain_data() -> None:
    data = Contrast("blank", 0.1, Estimate(0.2, 0.1, 0.3), "rise").as_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["differs"], data["note"], data["difference"]) == (True, "rise", 0.2)


def test_a_quantity_that_is_the_verdicts_own_is_not_repeated() -> None:
    contrast = Contrast("blank", 0.1, Estimate(0.2, 0.1, 0.3), quantity="drop")
    assert contrast.as_dict()["quantity"] == "drop"
    assert contrast.as_dict("drop")["quantity"] == ""


@pytest.mark.parametrize(
    "finding", ["inter_below_intra", "four_phases", "attention_sinks", "attention_rise_and_drop"]
)
def test_a_finding_does_not_differ_from_itself(finding: str) -> None:
    measured = curves({"inter": FOUR}, noise=0.01)
    control = Curves.from_arrays(
        {name: measured.mean(name)[None] for name in measured.names}, {"blank": "blank"}
    )
    (contrast,) = FINDINGS[finding].judge(Evidence(measured, {"blank": control})).controls
    assert contrast.differs is False
    assert contrast.difference.value == pytest.approx(0, abs=1e-12)


def test_recall_is_compared_with_other_captions_first() -> None:
    levels = {"recall": 0.4, "recall_other": 0.1, "lift": 0.3}
    measured = curves({name: np.full(41, level) for name, level in levels.items()}, noise=0.01)
    controls = FINDINGS["lens_recall_peak"].judge(Evidence(measured, {})).controls
    (contrast,) = controls
    assert contrast.control == "other captions"
    assert (contrast.value, contrast.difference.value) == pytest.approx((0.1, 0.3), abs=0.05)


@pytest.mark.parametrize("rounding", [4e-7, -4e-7])
def test_rounding_is_no_difference(rounding: float) -> None:
    """A model that ignores its image: real pictures and the blank one may be rounded differently."""
    assert (
        contrast_with(flat_curves(0.5, spread=0), flat_curves(0.5 + rounding, spread=0, images=1)).differs
        is False
    )
