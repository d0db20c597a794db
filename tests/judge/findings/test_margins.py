"""How far a verdict is from flipping, and how many images would decide one that is undecided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from phasebench.judge.findings import FINDINGS
from phasebench.judge.findings.finding import Condition, Outcome, verdict
from phasebench.judge.statistics import ROUNDING, Estimate, student
from tests.support.synthetic import FOUR, RECALL, evidence, through

HOLDS, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED


def condition(value: float, images: int = 50, what: str = "it", family: str = "") -> Condition:
    """A number with a standard error of 1, against 0."""
    return Condition(what, student(value, 1.0, images, images), family=family)


def end(images: int = 50, count: int = 1) -> float:
    return float(t.isf(0.025 / count, images - 1))


@pytest.mark.parametrize(
    ("value", "outcome", "margin"),
    [
        (5.0, HOLDS, 5 - end()),
        (-5.0, FAILS, 5 - end()),
        (1.5, UNDECIDED, 1.5 - end()),
        (-1.5, UNDECIDED, 1.5 - end()),
    ],
)
def test_the_margin_is_told_in_standard_errors(value: float, outcome: Outcome, margin: float) -> None:
    found = verdict([condition(value)], "")
    assert found.outcome is outcome
    assert found.margin == pytest.approx(margin, abs=1e-4)
    assert found.as_dict()["margin"] == pytest.approx(margin, abs=0.01)


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("measured", [3, 10, 50])
@pytest.mark.parametrize("value", [0.5, 1.0, -1.0])
def test_so_many_images_would_decide_it(value: float, measured: int, count: int) -> None:
    """With the t of so many: that of three images would ask for far too many."""
    others = [Condition("sure", student(1e4, 1.0, measured, measured))] * (count - 1)
    needed = verdict([condition(value, measured), *others], "").images_needed
    assert needed is not None
    for images, outcome in ((needed, HOLDS if value > 0 else FAILS), (needed - 1, UNDECIDED)):
        shrunk = Condition("it", student(value, math.sqrt(measured / images), images, images))
        assert verdict([shrunk, *others], "").outcome is outcome


def test_two_images_cannot_say_how_many_would_decide() -> None:
    assert verdict([condition(5.0, images=2)], "").outcome is UNDECIDED
    assert verdict([condition(5.0, images=2)], "").images_needed is None


def test_a_decided_verdict_needs_no_images() -> None:
    assert verdict([condition(5.0)], "").images_needed is None


@pytest.mark.parametrize("value", [0.0, ROUNDING / 2])
def test_no_number_of_images_decides_a_tie(value: float) -> None:
    assert verdict([condition(value)], "").images_needed is None


def test_no_number_of_images_decides_what_does_not_shrink() -> None:
    assert verdict([Condition("it", student(1, 1, 50, 50, fixed=1))], "").images_needed is None
    assert verdict([Condition("it", student(1, 1, 50, 50, fixed=0.1))], "").images_needed is not None


def test_a_claim_that_needs_all_is_refused_only_beyond_bonferroni() -> None:
    """One of 60 true conditions lies 2.5 standard errors low too often to mean anything."""
    many = [condition(5.0)] * 59
    assert verdict([condition(-2.5)], "").outcome is FAILS
    assert verdict([*many, condition(-2.5)], "").outcome is UNDECIDED
    assert verdict([*many, condition(-end(count=60) - 0.1)], "").outcome is FAILS


def test_an_interval_below_its_bound_says_why_it_decides_nothing() -> None:
    """It is below by itself, but one of ten such intervals lies so low by chance more often."""
    found = verdict([condition(-(end() + end(count=10)) / 2), *[condition(9.0)] * 9], "")
    assert found.outcome is UNDECIDED
    assert found.high < 0
    assert found.detail == "below 0 by itself, but not as one of 10 conditions: it"


def test_a_claim_that_needs_all_holds_without_correction() -> None:
    assert verdict([condition(end() + 0.1)] * 60, "").outcome is HOLDS


def test_the_deciding_condition_is_the_one_with_least_room_in_its_own_errors() -> None:
    wide = Condition("wide", student(5.0, 2.0, 50, 50))
    narrow = Condition("narrow", student(1.0, 0.1, 50, 50))
    assert verdict([narrow, wide], "").detail == "wide"


def test_a_family_is_told_once() -> None:
    layers = [condition(0.1, what=f"margin at layer {k}", family="margin") for k in range(30)]
    told = verdict([*layers, condition(0.2, what="growth")], "").detail
    assert told == "margin at layer 0; also growth"
    assert verdict([condition(0.05, what="growth"), *layers], "").detail == "growth; also margin"


def test_numbers_without_an_error_are_judged_by_their_ends() -> None:
    found = verdict([Condition("it", Estimate(2, 1, 3))], "")
    assert found.outcome is HOLDS
    assert found.as_dict()["margin"] is None


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_has_a_margin(finding: str) -> None:
    given = {
        "inter": FOUR,
        "ratio_first5": through({0: 1.5, 20: 2, 40: 6}),
        "total": through({0: 1, 20: 2, 37: 8, 40: 3}),
        "recall": RECALL,
        "lift": RECALL,
    }
    found = FINDINGS[finding].verdict(evidence(given, noise=0.01))
    assert found.outcome is HOLDS
    assert found.margin > 0
    assert found.images_needed is None


@pytest.mark.parametrize("finding", FINDINGS)
def test_too_few_images_are_undecided_without_a_margin(finding: str) -> None:
    found = FINDINGS[finding].verdict(evidence({"inter": FOUR}, noise=0.01, images=2))
    assert found.outcome is UNDECIDED
    assert found.as_dict()["margin"] is None


def test_fewer_images_are_nearer_to_flipping() -> None:
    few, many = (
        FINDINGS["inter_below_intra"].verdict(evidence({"inter": FOUR}, noise=0.1, images=images))
        for images in (20, 400)
    )
    assert 0 < few.margin < many.margin


def test_the_layer_decides_by_its_own_error() -> None:
    """The smallest margin is at layer 33; the one that may be chance is at layer 5, whose images differ."""
    given = evidence({"inter": FOUR}, noise=0.001)
    table = given.curves.table.copy()
    rng = np.random.default_rng(0)
    table.loc[(slice(None), 5), "inter"] += 2 * rng.standard_normal(60)
    noisy = type(given)(type(given.curves)(table, given.curves.items), {})
    assert "at layer 5;" in FINDINGS["inter_below_intra"].verdict(noisy).detail
