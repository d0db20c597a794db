"""Phases of a mean curve, compared with its noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phasebench.curves import Array, Curves
from phasebench.judge.findings.finding import FINDINGS
from phasebench.judge.findings.phase_fit import (
    HEIGHT_LEVEL,
    JOINT_Z,
    LONGER,
    PhaseFit,
    boundary_estimates,
    own_roughness,
    sampling_noise,
)
from phasebench.judge.findings.phase_verdict import four_phases_verdict
from phasebench.judge.findings.phases import FOUR, RISE, fit_pattern, roughness
from phasebench.judge.findings.verdict import Outcome, Verdict
from phasebench.judge.statistics import student_estimate
from tests.support.synthetic import FOUR as CURVE
from tests.support.synthetic import RISING, curves, evidence, through

WAVES = through({0: 0, 7: 1, 14: 0, 20: 1, 27: 0, 33: 1, 40: 0})


def noisy_curves(mean: Array, noise: float = 0.01, images: int = 60) -> Curves:
    return curves({"inter": mean}, noise=noise, images=images)


def zigzag(size: float) -> Array:
    return np.asarray(size * (-1.0) ** np.arange(41), dtype=np.float64)


@pytest.mark.parametrize("dip", [0.02, 0.05, 0.1])
def test_a_slight_decline_is_detected_if_the_images_agree(dip: float) -> None:
    shallow = through({0: 0, 3: 0.4, 10: 0.4 - 0.7 * dip, 33: 0.7, 40: 0.5})
    phases = PhaseFit(noisy_curves(shallow, noise=0.005, images=200)).chosen
    assert phases.pattern == FOUR
    assert np.allclose(phases.boundaries, (3, 10, 33), atol=1)


def test_a_slight_decline_is_undecided_if_the_images_differ() -> None:
    shallow = through({0: 0, 3: 0.4, 10: 0.38, 33: 0.7, 40: 0.5})
    result = FINDINGS["four_phases"].verdict(evidence({"inter": shallow}, noise=0.3, images=20))
    assert result.outcome is Outcome.UNDECIDED
    assert result.margin < 0


def test_six_phases_are_not_four() -> None:
    assert PhaseFit(noisy_curves(WAVES)).chosen.pattern == LONGER[0]
    result = FINDINGS["four_phases"].verdict(evidence({"inter": WAVES}, noise=0.01))
    assert result.outcome is Outcome.DOES_NOT_HOLD
    assert result.margin > 0
    assert result.detail.startswith("height of phase")
    assert len(result.data["phases"]["layers"]) == 5


def test_a_rise_has_no_sure_phases() -> None:
    assert not PhaseFit(noisy_curves(RISING)).four_are_sure
    assert PhaseFit(noisy_curves(RISING)).chosen.pattern == (RISE,)


@pytest.mark.parametrize("noise", [0.001, 0.1])
def test_roughness_of_noise_is_not_the_curves_own(noise: float) -> None:
    roughness_of_curve = own_roughness(noisy_curves(CURVE, noise=noise))
    assert roughness_of_curve < noise / np.sqrt(60)


def test_a_curves_own_roughness_is_detected_with_any_number_of_images() -> None:
    few, many = (own_roughness(noisy_curves(CURVE + zigzag(0.02), 0.01, images=n)) for n in (30, 400))
    assert few == pytest.approx(many, rel=0.1)
    assert many > 0.02


def test_a_zigzag_gives_no_phases_with_any_number_of_images() -> None:
    rough_curves = noisy_curves(RISING + zigzag(0.03), 0.001, images=400)
    assert not PhaseFit(rough_curves).four_are_sure
    rough_evidence = evidence({"inter": RISING + zigzag(0.03)}, noise=0.001, images=400)
    result = FINDINGS["four_phases"].verdict(rough_evidence)
    assert result.outcome is not Outcome.HOLDS
    assert result.images_needed is None


def test_straight_lines_and_turns_are_not_rough() -> None:
    assert roughness(CURVE) == pytest.approx(0, abs=1e-12)
    assert roughness(np.array([0.0, 1.0])) == 0


def test_roughness_is_the_standard_deviation_of_independent_noise() -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal(4000)
    assert roughness(noise) == pytest.approx(0.3, rel=0.05)


def test_sampling_noise_excludes_a_shift_of_all_layers() -> None:
    shift = np.random.default_rng(0).standard_normal((50, 1)) + np.zeros(11)
    shifted = Curves.from_arrays({"inter": shift}, {str(k): str(k) for k in range(50)})
    assert sampling_noise(shifted) == pytest.approx(0, abs=1e-12)
    assert sampling_noise(noisy_curves(CURVE, 0.2)) == pytest.approx(0.2 / np.sqrt(60), rel=0.1)


def test_heights_have_their_errors() -> None:
    phase_heights = PhaseFit(noisy_curves(CURVE, 0.01)).phase_heights(fit_pattern(CURVE, FOUR))
    assert [h.value for h in phase_heights] == pytest.approx([0.4, 0.1, 0.4, 0.2], abs=0.01)
    assert [h.error for h in phase_heights] == pytest.approx(4 * [0.01 * np.sqrt(2 / 60)], rel=0.4)


def test_boundaries_have_intervals_with_the_truth() -> None:
    boundaries = boundary_estimates(noisy_curves(CURVE, 0.05), fit_pattern(CURVE, FOUR))
    for boundary, truth in zip(boundaries, (3, 10, 33), strict=True):
        assert boundary.low <= truth <= boundary.high


def verdict_on_heights(*heights: float, error: float = 1.0, fixed: float = 0.0) -> Verdict:
    """The verdict on four phases of these heights, from 50 images."""
    estimates = [student_estimate(h, error, 50, 50, fixed=fixed, level=HEIGHT_LEVEL) for h in heights]
    fit = PhaseFit(noisy_curves(CURVE))
    vars(fit).update(min_height=0.0)  # as if they had been computed
    fit._heights[fit.judged] = estimates
    return four_phases_verdict(fit)


def test_heights_that_each_may_be_chance_hold_only_together() -> None:
    assert verdict_on_heights(2.5, 20, 4, 4).outcome is Outcome.HOLDS
    assert verdict_on_heights(2.0, 20, 9, 9).outcome is Outcome.UNDECIDED
    chance = verdict_on_heights(2.5, 20, 2.5, 2.5)
    assert chance.outcome is Outcome.UNDECIDED
    assert chance.detail.startswith("all but the largest height, taken together")
    assert chance.margin == pytest.approx(2.5 - JOINT_Z, abs=1e-6)


def test_enough_images_raise_the_smaller_heights_above_chance() -> None:
    assert verdict_on_heights(2.5, 20, 2.5, 2.5).images_needed == math.ceil(50 * (JOINT_Z / 2.5) ** 2)
    assert verdict_on_heights(2.5, 20, 2.5, 2.5, error=0.01, fixed=1.0).images_needed is None


def test_the_phases_of_one_image_are_reported() -> None:
    assert PhaseFit(noisy_curves(CURVE, 0.0, images=1)).chosen.pattern == FOUR
    assert PhaseFit(noisy_curves(RISING + zigzag(0.02), 0.0, images=1)).chosen.pattern != FOUR


def test_the_phases_of_one_image_are_sure_if_its_layers_are_smooth() -> None:
    assert PhaseFit(noisy_curves(CURVE, 0.0, images=1)).four_are_sure
    assert not PhaseFit(noisy_curves(CURVE + zigzag(0.2), 0.0, images=1)).four_are_sure


MORE = {
    "six": WAVES,
    "climbs back": through({0: 0, 5: 1, 10: 0, 20: 1, 30: 0, 40: 0.9}),
    "falls first": through({0: 0.8, 5: 0, 12: 1, 18: 0.3, 30: 1.2, 40: 0.6}),
    "both": through({0: 0.8, 5: 0, 12: 1, 18: 0.3, 30: 1.2, 35: 0.2, 40: 0.6}),
}


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("images", [10, 100])
def test_more_than_four_sure_phases_are_not_four(name: str, images: int) -> None:
    """A curve that climbs back after its last fall, or falls before its first rise, has another shape."""
    result = FINDINGS["four_phases"].verdict(evidence({"inter": MORE[name]}, noise=0.01, images=images))
    assert result.outcome is Outcome.DOES_NOT_HOLD
    assert result.margin > 0


def dipped(depth: float, at: int = 22) -> Array:
    """The paper's shape with a dip of one layer in phase III, ``depth`` of the range deep."""
    curve = CURVE.copy()
    curve[at] -= depth * np.ptp(CURVE)
    return curve


def verdict_on(mean: Array, noise: float = 0.02, images: int = 50) -> Verdict:
    return FINDINGS["four_phases"].verdict(evidence({"inter": mean}, noise=noise, images=images))


@pytest.mark.parametrize("images", [24, 400])
def test_a_small_dip_within_a_phase_is_a_detail_with_any_number_of_images(images: int) -> None:
    result = verdict_on(dipped(0.05), noise=0.005, images=images)
    assert result.outcome is Outcome.HOLDS
    # Of the 5 % the rise to the next layer takes a half.
    assert "rise, fall, rise, fall with a dip of 2." in result.detail
    assert "% at layer 22;" in result.detail


def test_a_dip_as_good_as_the_four_refutes_them_and_one_between_leaves_them_undecided() -> None:
    assert verdict_on(dipped(0.2)).outcome is Outcome.DOES_NOT_HOLD
    assert verdict_on(dipped(0.15)).outcome is Outcome.UNDECIDED
    assert "fits better, by 0.4" in verdict_on(dipped(0.15), noise=0.001).detail


@pytest.mark.parametrize("size", [0.005, 0.01, 0.02, 0.03])
def test_more_noise_rarely_makes_a_refuted_claim_hold(size: float) -> None:
    rng = np.random.default_rng(0)
    curves_with_noise = (dipped(0.2) + size * rng.standard_normal(41) for _ in range(12))
    outcomes = [four_phases_verdict(PhaseFit(noisy_curves(c))).outcome for c in curves_with_noise]
    assert outcomes.count(Outcome.HOLDS) <= 1  # a zigzag may cancel the dip


def wander(coefficient: float, size: float, rng: np.random.Generator) -> Array:
    """An autoregression over layers [41]."""
    values = [rng.standard_normal()]
    for shock in rng.standard_normal(40):
        values.append(coefficient * values[-1] + math.sqrt(1 - coefficient**2) * shock)
    return size * np.array(values)


@pytest.mark.parametrize("coefficient", [0.7, 0.9])
def test_a_curve_that_only_wanders_rarely_has_four_phases(coefficient: float) -> None:
    rng = np.random.default_rng(0)
    outcomes = [
        four_phases_verdict(PhaseFit(noisy_curves(wander(coefficient, 0.05, rng)))).outcome for _ in range(40)
    ]
    assert outcomes.count(Outcome.HOLDS) <= 4  # before roughness counted for wander, 17 to 24 %


def test_an_extra_phase_that_may_be_there_leaves_four_undecided() -> None:
    """It improves the fit as much as the four, but it is not beyond noise for all pairs of layers."""
    result = verdict_on(dipped(0.2), noise=0.21)
    assert result.outcome is Outcome.UNDECIDED
    assert "fits better, by" in result.detail
    assert result.images_needed is not None


def test_boundaries_near_the_papers_are_counted_beside_the_verdict() -> None:
    at_paper = verdict_on(CURVE)
    assert "3 of 3 boundaries near the paper's depths 0.075, 0.25, 0.825" in at_paper.detail
    late = verdict_on(through({0: 0.0, 20: 0.4, 25: 0.3, 33: 0.7, 40: 0.5}))
    assert late.outcome is Outcome.HOLDS
    assert "1 of 3 boundaries near" in late.detail
    assert late.data["phases"]["near_paper"] == ["does not hold", "does not hold", "holds"]


def test_the_verdict_from_layer_1_on_is_shown() -> None:
    only_by_layer_0 = CURVE.copy()
    only_by_layer_0[1:4] = 0.4
    result = verdict_on(only_by_layer_0)
    assert result.outcome is Outcome.HOLDS
    assert result.data["phases"]["from_layer_1"] == "undecided"
    assert "from layer 1 on: undecided" in result.detail


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize(("images", "noise"), [(1, 0.0), (1, 0.001), (2, 0.001), (2, 0.0)])
def test_more_phases_of_too_few_images_decide_nothing(name: str, images: int, noise: float) -> None:
    """However smooth the curve of a single image is."""
    result = FINDINGS["four_phases"].verdict(evidence({"inter": MORE[name]}, noise=noise, images=images))
    assert result.outcome is Outcome.UNDECIDED
    assert result.images_needed is None


def test_a_curve_that_is_flat_up_to_rounding_has_no_phase() -> None:
    assert PhaseFit(noisy_curves(np.full(41, 0.3), 0.0)).min_height > 1e-5
    assert PhaseFit(noisy_curves(CURVE, 0.0)).min_height == pytest.approx(0.005 * 0.7)
