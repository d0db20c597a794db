"""Each finding on curves with a known answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phasebench.curves import Curves
from phasebench.errors import InputError
from phasebench.judge.findings.finding import FINDINGS, Evidence, Finding
from phasebench.judge.findings.layers import layer_ranges, mean_near
from phasebench.judge.findings.verdict import Condition, Outcome, Verdict, verdict
from phasebench.judge.statistics import Estimate
from tests.statistics import shapes
from tests.statistics.populations import Population
from tests.support.runs import FINDING_IDS
from tests.support.synthetic import FOUR, RECALL, RISING, evidence, through

HOLDS, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED


def judge_means(finding: str, noise: float = 0.01, **means: np.ndarray) -> Verdict:
    return FINDINGS[finding].verdict(evidence(means, noise=noise))


def test_the_six_findings_are_named_once() -> None:
    assert set(FINDINGS) == set(FINDING_IDS)
    assert all(finding.claim.endswith(".") and finding.source for finding in FINDINGS.values())


def test_inter_below_intra_holds() -> None:
    result = judge_means("inter_below_intra", inter=FOUR)
    assert result.outcome is HOLDS
    assert result.value == pytest.approx(0.2, abs=0.01)
    assert result.low < result.value < result.high
    assert "layer 33" in result.detail


def test_inter_below_intra_fails_where_it_is_reversed() -> None:
    result = judge_means("inter_below_intra", inter=FOUR, intra_text=np.where(np.arange(41) > 35, 0.4, 0.9))
    assert result.outcome is FAILS
    assert "36-40" in result.detail


def test_inter_below_intra_ignores_layer_0() -> None:
    high_at_0 = FOUR.copy()
    high_at_0[0] = 1.0
    assert judge_means("inter_below_intra", inter=high_at_0).outcome is HOLDS


def test_four_phases_hold_with_their_boundaries() -> None:
    result = judge_means("four_phases", inter=FOUR)
    assert result.outcome is HOLDS
    assert result.value == pytest.approx(0.1, abs=0.01)
    assert "rise, fall, rise, fall" in result.detail
    assert "3 [" in result.detail
    assert "33 [" in result.detail


@pytest.mark.parametrize("curve", [RISING, through({0: 0, 3: 0.4, 10: 0.2, 40: 0.8})])
def test_four_phases_fail_if_there_are_fewer(curve: np.ndarray) -> None:
    assert judge_means("four_phases", inter=curve).outcome is FAILS


def test_four_phases_under_much_noise_do_not_hold_for_sure() -> None:
    assert judge_means("four_phases", inter=0.05 * FOUR, noise=0.5).outcome is not HOLDS


def test_attention_sinks_hold() -> None:
    result = judge_means("attention_sinks", ratio_first5=through({0: 1.5, 20: 2, 40: 6}))
    assert result.outcome is HOLDS
    assert "40 of 40 layers" in result.detail


def test_attention_sinks_fail_at_one_layer_below_1() -> None:
    dip = through({0: 1.5, 20: 2, 40: 6})
    dip[7] = 0.8
    result = judge_means("attention_sinks", ratio_first5=dip)
    assert result.outcome is FAILS
    assert "layer 7" in result.detail


def test_attention_sinks_must_grow() -> None:
    assert judge_means("attention_sinks", ratio_first5=through({0: 6, 40: 2})).outcome is FAILS


def test_attention_rises_and_drops() -> None:
    result = judge_means("attention_rise_and_drop", total=through({0: 1, 20: 2, 37: 8, 40: 3}))
    assert result.outcome is HOLDS
    assert "layer 37" in result.detail


@pytest.mark.parametrize("points", [{0: 1, 40: 8}, {0: 8, 20: 4, 40: 1}])
def test_attention_without_drop_or_rise_fails(points: dict[int, float]) -> None:
    assert judge_means("attention_rise_and_drop", total=through(points)).outcome is FAILS


def test_the_recall_peak_of_the_paper_holds() -> None:
    result = judge_means("lens_recall_peak", recall=RECALL, recall_other=0.05 * RECALL, lift=0.95 * RECALL)
    assert result.outcome is HOLDS
    assert "layer 33 of 40" in result.detail


@pytest.mark.parametrize(
    ("recall", "lift", "reason"),
    [
        (RECALL, 0 * RECALL - 0.05, "lift near depth 0.825"),
        (through({0: 0, 40: 0.4}), through({0: 0, 40: 0.4}), "above the last layer"),
        (through({0: 0, 20: 0.4, 40: 0}), through({0: 0, 20: 0.4, 40: 0}), "nearness"),
    ],
)
def test_recall_without_lift_fall_or_nearness_does_not_hold(
    recall: np.ndarray, lift: np.ndarray, reason: str
) -> None:
    result = judge_means("lens_recall_peak", recall=recall, lift=lift)
    assert result.outcome is not HOLDS
    assert reason in result.detail


def test_the_lens_follows_the_phases() -> None:
    result = judge_means("lens_follows_phases", inter=FOUR, recall=RECALL, lift=RECALL)
    assert result.outcome is HOLDS
    assert abs(result.value) <= 1 / 40


def test_the_lens_cannot_surely_follow_phases_that_are_not_sure() -> None:
    """The pattern may be chosen although one of its heights is within noise."""
    base = Population.recorded_images("smol-llava", "scenes")
    population = base.around(inter=shapes.four(base, shapes.EVEN, 50, 3))
    rng, unsure_count = np.random.default_rng(0), 0
    for _ in range(8):
        sample = population.sample(50, rng)
        recall = np.tile(np.eye(31)[23] + 0.1, (50, 1))
        arrays = {"inter": sample.array("inter"), "recall": recall, "lift": recall}
        sample_evidence = Evidence(Curves.from_arrays(arrays, sample.items), {})
        phases, lens = (
            FINDINGS[name].verdict(sample_evidence) for name in ("four_phases", "lens_follows_phases")
        )
        assert lens.outcome is not HOLDS or phases.outcome is HOLDS
        unsure_count += lens.detail.startswith("the four phases are not sure")
    assert unsure_count


def test_the_lens_does_not_follow_a_far_boundary() -> None:
    early = through({0: 0, 15: 0.4, 40: 0.1})
    assert judge_means("lens_follows_phases", inter=FOUR, recall=early, lift=early).outcome is FAILS


def test_without_a_fourth_phase_there_is_nothing_to_follow() -> None:
    result = judge_means("lens_follows_phases", inter=RISING, recall=RECALL, lift=RECALL)
    assert result.outcome is FAILS
    assert "no phase IV" in result.detail
    assert result.as_dict()["value"] is None


@pytest.mark.parametrize("finding", FINDING_IDS)
def test_verdicts_are_plain_data(finding: str) -> None:
    data = judge_means(finding, inter=FOUR, recall=RECALL, lift=RECALL).as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["verdict"] in {"holds", "does not hold", "undecided"}


def test_one_failed_condition_decides() -> None:
    sure, unsure, failed = (
        Condition(w, Estimate(v, v - 1, v + 1)) for w, v in (("a", 5), ("b", 0.5), ("c", -5))
    )
    assert verdict([sure, unsure, failed], "").outcome is FAILS
    assert verdict([sure, unsure], "").outcome is UNDECIDED
    assert verdict([sure], "").outcome is HOLDS
    assert verdict([sure, unsure, failed], "x").detail.startswith("c; ")


def test_a_judge_that_returns_no_verdict_is_named() -> None:
    own_finding = Finding("ours", "It is so.", "here", lambda _: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="finding ours: its judge should return a Verdict, not 3"):
        own_finding.verdict(evidence({"inter": FOUR}))


def test_a_claim_without_a_condition_is_refused() -> None:
    with pytest.raises(InputError, match="a claim needs at least one condition"):
        verdict([], "")


def test_the_control_is_part_of_the_verdict() -> None:
    result = FINDINGS["four_phases"].judge(
        type(evidence({"inter": FOUR}))(
            evidence({"inter": FOUR}).curves, {"blank": evidence({"inter": RISING}).curves}
        )
    )
    (blank,) = result.controls
    assert (blank.control, blank.note) == ("blank", "rise")
    assert blank.differs


@pytest.mark.parametrize("finding", FINDING_IDS)
@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_a_model_of_few_layers_is_judged_too(finding: str, last: int) -> None:
    means = {"inter": FOUR[: last + 1], "recall": RECALL[: last + 1]}
    assert FINDINGS[finding].verdict(evidence(means, noise=0.01)).outcome in (HOLDS, FAILS, UNDECIDED)


def test_layers_are_written_as_ranges() -> None:
    assert layer_ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert layer_ranges([]) == ""


@pytest.mark.parametrize(
    ("finding", "curve", "part"),
    [
        ("four_phases", "inter", "similarity"),
        ("inter_below_intra", "intra_text", "similarity"),
        ("attention_sinks", "ratio_first5", "attention"),
        ("attention_rise_and_drop", "total", "attention"),
        ("lens_recall_peak", "recall", "lens"),
        ("lens_follows_phases", "recall", "lens"),
    ],
)
def test_without_its_curve_a_finding_is_undecided_with_a_reason(finding: str, curve: str, part: str) -> None:
    complete = evidence({"inter": FOUR, curve: np.full(41, np.nan)})
    incomplete_curves = Curves(
        complete.curves.table, complete.curves.items, {"unmeasured": {part: "so it is"}}
    )
    result = FINDINGS[finding].verdict(Evidence(incomplete_curves, {}))
    assert result.outcome is UNDECIDED
    assert f"{curve}: not measured; so it is" in result.detail
    assert result.as_dict()["value"] is None


def test_sinks_are_judged_where_there_is_attention() -> None:
    """A model with attention at every fourth layer only."""
    ratio = np.where(np.arange(41) % 4 == 0, np.linspace(2, 4, 41), np.nan)
    result = judge_means("attention_sinks", ratio_first5=ratio)
    assert result.outcome is HOLDS
    assert "10 of 10 layers" in result.detail


def test_saliency_is_judged_where_there_is_attention() -> None:
    total = through({0: 0.2, 20: 0.2, 21: 1.0, 36: 1.0, 37: 0.1, 40: 0.1})
    total[np.arange(41) % 4 != 0] = np.nan
    assert judge_means("attention_rise_and_drop", total=total).outcome is HOLDS


@pytest.mark.parametrize("finding", ["four_phases", "attention_sinks", "attention_rise_and_drop"])
@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_that_is_the_same_in_every_image_is_not_judged(finding: str, sign: int) -> None:
    """The paper's shapes at a ten-millionth of their size, with intervals narrower still."""
    scale = sign * 1e-7
    means = {
        "inter": 0.3 + scale * FOUR,
        "ratio_first5": 1 + scale * through({0: 1.5, 20: 2, 40: 6}),
        "total": 1 + scale * through({0: 1, 20: 2, 37: 8, 40: 3}),
    }
    result = judge_means(finding, noise=0, **means)
    assert result.outcome is (FAILS if finding == "four_phases" else UNDECIDED)


@pytest.mark.parametrize(
    ("last", "peak", "near"),
    [(26, 24, True), (19, 14, True), (24, 17, True), (20, 14, True), (20, 13, False)],
)
def test_a_peak_is_near_within_a_tenth_and_half_a_layer(last: int, peak: int, near: bool) -> None:
    """No layer has depth 0.825: layer 24 of 26 lies 0.098 from it."""
    layers = np.arange(last + 1)
    recall = 0.3 - 0.01 * np.abs(layers - peak)
    result = judge_means("lens_recall_peak", noise=0.001, recall=recall, recall_other=0 * recall, lift=recall)
    is_named = "nearness of the peak" in result.detail
    assert (result.outcome is HOLDS or not is_named) is near, result.detail


@pytest.mark.parametrize("images", [3, 60])
@pytest.mark.parametrize("finding", ["lens_recall_peak", "lens_follows_phases"])
def test_a_lens_that_decodes_nothing_has_no_fixed_peak(finding: str, images: int) -> None:
    means = {"inter": FOUR, "recall": 0 * FOUR, "recall_other": 0 * FOUR, "lift": 0 * FOUR}
    result = FINDINGS[finding].verdict(evidence(means, noise=0.0, images=images))
    assert result.outcome is Outcome.UNDECIDED


def test_layers_at_the_edge_of_the_papers_depth_are_near_it() -> None:
    """33/40 and a tenth of 40 layers on either side: 29 to 37, whatever the rounding."""
    for last in (40, 80):
        near = [layer for layer in range(last + 1) if mean_near(np.eye(last + 1)[layer], 33 / 40) > 0]
        assert (near[0], near[-1]) == (29 * last // 40, 37 * last // 40)


def test_the_printed_interval_has_one_level() -> None:
    """Its upper end is not the corrected one, which lies one and a half times as far from the value."""
    result = judge_means("inter_below_intra", noise=0.05, inter=FOUR)
    assert result.value - result.low == pytest.approx(result.high - result.value, rel=0.1)
