"""A finding's number beside its controls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phasebench.curves import Array, Curves
from phasebench.judge.findings import FINDINGS
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import Evidence
from phasebench.judge.statistics import Estimate, Means
from tests.support.synthetic import FOUR, curves

IMAGES = 40


def noisy(level: float, spread: float = 0.1, images: int = IMAGES, seed: int = 0) -> Curves:
    """A flat curve at ``level``; images differ by ``spread``."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=(images, 1))
    items = {str(index): str(index) for index in range(images)}
    return Curves.from_arrays({"inter": level + noise + np.zeros(5)}, items)


def last(means: Means) -> Array:
    return means["inter"][..., -1]


def against(measured: Curves, control: Curves) -> Contrast:
    (found,) = contrasts(measured, {"blank": control}, ("inter",), last)
    return found


def test_a_number_far_from_its_control_differs() -> None:
    found = against(noisy(0.5), noisy(0.2, images=1))
    assert found.differs
    assert found.difference.value == pytest.approx(0.3, abs=0.1)
    assert found.difference.low < found.difference.value < found.difference.high


def test_a_number_beside_its_control_is_not_told_apart() -> None:
    measured = noisy(0.5)
    same = float(measured.mean("inter")[-1])
    found = against(measured, noisy(same, spread=0, images=1))
    assert found.differs is False
    assert found.value == pytest.approx(same)


def test_the_spread_of_the_control_widens_the_interval() -> None:
    fixed = against(noisy(0.5), noisy(0.2, images=1)).difference
    spread = against(noisy(0.5), noisy(0.2, seed=1)).difference
    assert spread.high - spread.low > 1.1 * (fixed.high - fixed.low)


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    gap = against(noisy(0.5), noisy(0.2, spread=0, images=1)).difference
    error = noisy(0.5).summary("inter")["se"].iloc[-1]
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_leave_it_undecided(images: int) -> None:
    found = against(noisy(0.5, images=images), noisy(0.2, images=1))
    assert found.differs is None
    assert found.as_dict()["low"] is None


def test_images_that_the_control_has_are_compared_with_themselves() -> None:
    """Controls on request measure the first images only: more measured ones must not blur the difference."""
    measured = noisy(0.5, images=60)
    some = list(measured.items)[:24]
    lower = Curves.from_arrays({"inter": measured.array("inter")[:24] - 0.03}, {name: name for name in some})
    found = against(measured, lower)
    assert found.difference.value == pytest.approx(0.03)
    assert found.difference.high - found.difference.low < 1e-9
    assert found.difference.items == 24
    assert found.differs


def test_a_control_without_the_curve_is_left_out() -> None:
    bare = Curves.from_arrays({"recall": np.zeros((1, 5))}, {"blank": "blank"})
    assert contrasts(noisy(0.5), {"blank": bare}, ("inter",), last) == ()


def test_a_contrast_is_plain_data() -> None:
    plain = Contrast("blank", 0.1, Estimate(0.2, 0.1, 0.3), "rise").as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["differs"], plain["note"], plain["difference"]) == (True, "rise", 0.2)


@pytest.mark.parametrize(
    "finding", ["inter_below_intra", "four_phases", "attention_sinks", "attention_rise_and_drop"]
)
def test_a_finding_is_not_told_apart_from_itself(finding: str) -> None:
    measured = curves({"inter": FOUR}, noise=0.01)
    control = Curves.from_arrays(
        {name: measured.mean(name)[None] for name in measured.names}, {"blank": "blank"}
    )
    (found,) = FINDINGS[finding].judge(Evidence(measured, {"blank": control})).controls
    assert found.differs is False
    assert found.difference.value == pytest.approx(0, abs=1e-12)


def test_recall_is_held_against_other_captions_first() -> None:
    levels = {"recall": 0.4, "recall_other": 0.1, "lift": 0.3}
    measured = curves({name: np.full(41, level) for name, level in levels.items()}, noise=0.01)
    controls = FINDINGS["lens_recall_peak"].judge(Evidence(measured, {})).controls
    (other,) = controls
    assert other.control == "other captions"
    assert (other.value, other.difference.value) == pytest.approx((0.1, 0.3), abs=0.05)


@pytest.mark.parametrize("rounding", [4e-7, -4e-7])
def test_rounding_is_no_difference(rounding: float) -> None:
    """A model that does not look at its image: its pictures and the blank one may be rounded differently."""
    assert against(noisy(0.5, spread=0), noisy(0.5 + rounding, spread=0, images=1)).differs is False
