"""A verdict's margin, and how many images would decide an undecided one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from phasebench.judge.findings.finding import FINDINGS
from phasebench.judge.findings.verdict import Condition, Outcome, Verdict, verdict
from phasebench.judge.statistics import ROUNDING, Estimate, student_estimate
from tests.support.synthetic import FOUR, RECALL, evidence, through

HOLDS, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED


def condition(value: float, images: int = 50, what: str = "it", family: str = "") -> Condition:
    """A number with a standard error of 1, against 0."""
    return Condition(what, student_estimate(value, 1.0, images, images), family=family)


def half_width(images: int = 50, count: int = 1) -> float:
    return float(t.isf(0.025 / count, images - 1))


@pytest.mark.parametrize(
    ("value", "outcome", "margin"),
    [
        (5.0, HOLDS, 5 - half_width()),
        (-5.0, FAILS, 5 - half_width()),
        (1.5, UNDECIDED, 1.5 - half_width()),
        (-1.5, UNDECIDED, 1.5 - half_width()),
    ],
)
def test_the_margin_is_in_standard_errors(value: float, outcome: Outcome, margin: float) -> None:
    result = verdict([condition(value)], "")
    assert result.outcome is outcome
    assert result.margin == pytest.approx(margin, abs=1e-4)
    assert result.as_dict()["margin"] == pytest.approx(margin, abs=0.01)


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("measured", [3, 10, 50])
@pytest.mark.parametrize("value", [0.5, 1.0, -1.0])
def test_the_recommended_number_of_images_decides(value: float, measured: int, count: int) -> None:
    """With the t of that number: the t of three images would recommend far too many."""
    sure_conditions = [Condition("sure", student_estimate(1e4, 1.0, measured, measured))] * (count - 1)
    images_needed = verdict([condition(value, measured), *sure_conditions], "").images_needed
    assert images_needed is not None
    for images, outcome in ((images_needed, HOLDS if value > 0 else FAILS), (images_needed - 1, UNDECIDED)):
        scaled_condition = Condition(
            "it", student_estimate(value, math.sqrt(measured / images), images, images)
        )
        assert verdict([scaled_condition, *sure_conditions], "").outcome is outcome


def test_two_images_give_no_recommended_number() -> None:
    assert verdict([condition(5.0, images=2)], "").outcome is UNDECIDED
    assert verdict([condition(5.0, images=2)], "").images_needed is None


def test_a_decided_verdict_needs_no_images() -> None:
    assert verdict([condition(5.0)], "").images_needed is None


@pytest.mark.parametrize("value", [0.0, ROUNDING / 2])
def test_no_number_of_images_decides_a_tie(value: float) -> None:
    assert verdict([condition(value)], "").images_needed is None


def test_no_number_of_images_decides_against_a_fixed_error() -> None:
    assert verdict([Condition("it", student_estimate(1, 1, 50, 50, fixed=1))], "").images_needed is None
    assert verdict([Condition("it", student_estimate(1, 1, 50, 50, fixed=0.1))], "").images_needed is not None


def test_a_claim_fails_only_beyond_bonferronis_correction() -> None:
    """One of 60 true conditions often lies 2.5 standard errors too low."""
    sure_conditions = [condition(5.0)] * 59
    assert verdict([condition(-2.5)], "").outcome is FAILS
    assert verdict([*sure_conditions, condition(-2.5)], "").outcome is UNDECIDED
    assert verdict([*sure_conditions, condition(-half_width(count=60) - 0.1)], "").outcome is FAILS


def test_an_interval_below_its_bound_explains_why_it_is_undecided() -> None:
    """It is below by itself, but one of ten such intervals lies so low by chance more often."""
    result = verdict([condition(-(half_width() + half_width(count=10)) / 2), *[condition(9.0)] * 9], "")
    assert result.outcome is UNDECIDED
    assert result.high < 0
    assert result.detail == "below 0 by itself, but not as one of 10 conditions: it"


def test_a_claim_holds_without_correction() -> None:
    assert verdict([condition(half_width() + 0.1)] * 60, "").outcome is HOLDS


def test_the_condition_with_the_smallest_z_score_decides() -> None:
    wide = Condition("wide", student_estimate(5.0, 2.0, 50, 50))
    narrow = Condition("narrow", student_estimate(1.0, 0.1, 50, 50))
    assert verdict([narrow, wide], "").detail == "wide"


def test_the_line_has_the_subject_the_number_its_interval_and_its_bound_once() -> None:
    sure, unsure = Condition("rise", Estimate(2, 1, 3), 0.5), Condition("drop", Estimate(0.2, -1, 3), 0.25)
    result = verdict([sure, unsure], "largest at layer 6")
    assert (result.subject, result.bound) == ("drop", 0.25)
    assert result.line == "drop: 0.2 [-1, 3] (must be above 0.25)"
    plain = result.as_dict()
    assert (plain["line"], plain["bound"], plain["detail"]) == (result.line, 0.25, "largest at layer 6")


def test_a_verdict_without_a_number_or_a_condition_has_no_line() -> None:
    result = verdict([Condition("drop", Estimate(math.nan, math.nan, math.nan))], "")
    assert (result.line, result.as_dict()["detail"]) == ("", "drop")
    assert Verdict(UNDECIDED, 0.5, 0, 1, "not measured").as_dict()["bound"] is None
    assert replace(verdict([condition(2.0)], ""), bound=math.nan).line.endswith("]")


def test_a_family_is_named_once() -> None:
    layers = [condition(0.1, what=f"margin at layer {k}", family="margin") for k in range(30)]
    detail = verdict([*layers, condition(0.2, what="growth")], "").detail
    assert detail == "margin at layer 0; also growth"
    assert verdict([condition(0.05, what="growth"), *layers], "").detail == "growth; also margin"


def test_numbers_without_an_error_are_judged_by_their_ends() -> None:
    result = verdict([Condition("it", Estimate(2, 1, 3))], "")
    assert result.outcome is HOLDS
    assert result.as_dict()["margin"] is None


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_has_a_margin(finding: str) -> None:
    means = {
        "inter": FOUR,
        "ratio_first5": through({0: 1.5, 20: 2, 40: 6}),
        "total": through({0: 1, 20: 2, 37: 8, 40: 3}),
        "recall": RECALL,
        "lift": RECALL,
    }
    result = FINDINGS[finding].verdict(evidence(means, noise=0.01))
    assert result.outcome is HOLDS
    assert result.margin > 0
    assert result.images_needed is None


@pytest.mark.parametrize("finding", FINDINGS)
def test_too_few_images_are_undecided_without_a_margin(finding: str) -> None:
    result = FINDINGS[finding].verdict(evidence({"inter": FOUR}, noise=0.01, images=2))
    assert result.outcome is UNDECIDED
    assert result.as_dict()["margin"] is None


def test_fewer_images_have_a_smaller_margin() -> None:
    few, many = (
        FINDINGS["inter_below_intra"].verdict(evidence({"inter": FOUR}, noise=0.1, images=images))
        for images in (20, 400)
    )
    assert 0 < few.margin < many.margin


def test_the_layer_decides_by_its_own_error() -> None:
    """The smallest margin is at layer 33, but that at layer 5, whose images differ, may be chance."""
    smooth_evidence = evidence({"inter": FOUR}, noise=0.001)
    table = smooth_evidence.curves.table.copy()
    rng = np.random.default_rng(0)
    table.loc[(slice(None), 5), "inter"] += 2 * rng.standard_normal(60)
    noisy_evidence = type(smooth_evidence)(
        type(smooth_evidence.curves)(table, smooth_evidence.curves.items), {}
    )
    assert "at layer 5;" in FINDINGS["inter_below_intra"].verdict(noisy_evidence).detail
