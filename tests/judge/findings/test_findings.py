"""Each finding on curves where the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phasebench.catalog import FINDINGS as IDS
from phasebench.curves import Curves
from phasebench.errors import InputError
from phasebench.judge.findings import FINDINGS
from phasebench.judge.findings.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.findings.lens import _near
from phasebench.judge.findings.similarity import _spans
from phasebench.judge.statistics import Estimate
from tests.statistics import shapes
from tests.statistics.populations import Population
from tests.support.synthetic import FOUR, RECALL, RISING, evidence, through

HOLDS, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED


def judged(finding: str, noise: float = 0.01, **given: np.ndarray) -> Verdict:
    return FINDINGS[finding].verdict(evidence(given, noise=noise))


def test_the_six_findings_are_named_once() -> None:
    assert tuple(FINDINGS) == IDS
    assert all(finding.claim.endswith(".") and finding.source for finding in FINDINGS.values())


def test_inter_below_intra_holds() -> None:
    found = judged("inter_below_intra", inter=FOUR)
    assert found.outcome is HOLDS
    assert found.value == pytest.approx(0.2, abs=0.01)
    assert found.low < found.value < found.high
    assert "layer 33" in found.detail


def test_inter_below_intra_fails_where_it_is_reversed() -> None:
    found = judged("inter_below_intra", inter=FOUR, intra_text=np.where(np.arange(41) > 35, 0.4, 0.9))
    assert found.outcome is FAILS
    assert "36-40" in found.detail


def test_inter_below_intra_does_not_look_at_layer_0() -> None:
    high_at_0 = FOUR.copy()
    high_at_0[0] = 1.0
    assert judged("inter_below_intra", inter=high_at_0).outcome is HOLDS


def test_four_phases_hold_with_their_boundaries() -> None:
    found = judged("four_phases", inter=FOUR)
    assert found.outcome is HOLDS
    assert found.value == pytest.approx(0.1, abs=0.01)
    assert "rise, fall, rise, fall" in found.detail
    assert "3 [" in found.detail
    assert "33 [" in found.detail


@pytest.mark.parametrize("curve", [RISING, through({0: 0, 3: 0.4, 10: 0.2, 40: 0.8})])
def test_fewer_phases_are_said_to_be_fewer(curve: np.ndarray) -> None:
    assert judged("four_phases", inter=curve).outcome is FAILS


def test_four_phases_under_much_noise_do_not_hold_for_sure() -> None:
    assert judged("four_phases", inter=0.05 * FOUR, noise=0.5).outcome is not HOLDS


def test_attention_sinks_hold() -> None:
    found = judged("attention_sinks", ratio_first5=through({0: 1.5, 20: 2, 40: 6}))
    assert found.outcome is HOLDS
    assert "40 of 40 layers" in found.detail


def test_attention_sinks_fail_at_one_layer_below_1() -> None:
    dip = through({0: 1.5, 20: 2, 40: 6})
    dip[7] = 0.8
    found = judged("attention_sinks", ratio_first5=dip)
    assert found.outcome is FAILS
    assert "layer 7" in found.detail


def test_attention_sinks_must_grow() -> None:
    assert judged("attention_sinks", ratio_first5=through({0: 6, 40: 2})).outcome is FAILS


def test_attention_rises_and_drops() -> None:
    found = judged("attention_rise_and_drop", total=through({0: 1, 20: 2, 37: 8, 40: 3}))
    assert found.outcome is HOLDS
    assert "layer 37" in found.detail


@pytest.mark.parametrize("points", [{0: 1, 40: 8}, {0: 8, 20: 4, 40: 1}])
def test_attention_without_drop_or_rise_fails(points: dict[int, float]) -> None:
    assert judged("attention_rise_and_drop", total=through(points)).outcome is FAILS


def test_the_recall_peak_of_the_paper_holds() -> None:
    found = judged("lens_recall_peak", recall=RECALL, recall_other=0.05 * RECALL, lift=0.95 * RECALL)
    assert found.outcome is HOLDS
    assert "layer 33 of 40" in found.detail


@pytest.mark.parametrize(
    ("recall", "lift", "why"),
    [
        (RECALL, 0 * RECALL - 0.05, "lift near depth 0.825"),
        (through({0: 0, 40: 0.4}), through({0: 0, 40: 0.4}), "above the last layer"),
        (through({0: 0, 20: 0.4, 40: 0}), through({0: 0, 20: 0.4, 40: 0}), "nearness"),
    ],
)
def test_recall_without_lift_fall_or_nearness_does_not_hold(
    recall: np.ndarray, lift: np.ndarray, why: str
) -> None:
    found = judged("lens_recall_peak", recall=recall, lift=lift)
    assert found.outcome is not HOLDS
    assert why in found.detail


def test_the_lens_follows_the_phases() -> None:
    found = judged("lens_follows_phases", inter=FOUR, recall=RECALL, lift=RECALL)
    assert found.outcome is HOLDS
    assert abs(found.value) <= 1 / 40


def test_where_four_phases_are_not_sure_nothing_is_sure_to_follow_them() -> None:
    """The pattern may win although one of its heights is no more than noise."""
    base = Population.of("smol-llava", "scenes")
    drawn = base.around(inter=shapes.four(base, shapes.EVEN, 50, 3))
    rng, seen = np.random.default_rng(0), 0
    for _ in range(8):
        sample = drawn.sample(50, rng)
        recall = np.tile(np.eye(31)[23] + 0.1, (50, 1))
        arrays = {"inter": sample.array("inter"), "recall": recall, "lift": recall}
        about = Evidence(Curves.from_arrays(arrays, sample.items), {})
        phases, lens = (FINDINGS[name].verdict(about) for name in ("four_phases", "lens_follows_phases"))
        assert lens.outcome is not HOLDS or phases.outcome is HOLDS
        seen += lens.detail.startswith("the four phases are not sure")
    assert seen


def test_the_lens_does_not_follow_a_far_boundary() -> None:
    early = through({0: 0, 15: 0.4, 40: 0.1})
    assert judged("lens_follows_phases", inter=FOUR, recall=early, lift=early).outcome is FAILS


def test_without_a_fourth_phase_there_is_nothing_to_follow() -> None:
    found = judged("lens_follows_phases", inter=RISING, recall=RECALL, lift=RECALL)
    assert found.outcome is FAILS
    assert "no phase IV" in found.detail
    assert found.as_dict()["value"] is None


@pytest.mark.parametrize("finding", IDS)
def test_verdicts_are_plain_data(finding: str) -> None:
    plain = judged(finding, inter=FOUR, recall=RECALL, lift=RECALL).as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["verdict"] in {"holds", "does not hold", "undecided"}


def test_one_failed_condition_decides() -> None:
    sure, unsure, no = (Condition(w, Estimate(v, v - 1, v + 1)) for w, v in (("a", 5), ("b", 0.5), ("c", -5)))
    assert verdict([sure, unsure, no], "").outcome is FAILS
    assert verdict([sure, unsure], "").outcome is UNDECIDED
    assert verdict([sure], "").outcome is HOLDS
    assert verdict([sure, unsure, no], "x").detail.startswith("c; ")


def test_a_judge_that_gives_something_else_is_named() -> None:
    ours = Finding("ours", "It is so.", "here", lambda _: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="finding ours: its judge should give a Verdict, not 3"):
        ours.verdict(evidence({"inter": FOUR}))


def test_a_claim_without_a_condition_is_refused() -> None:
    with pytest.raises(InputError, match="a claim needs a condition"):
        verdict([], "")


def test_the_control_is_told() -> None:
    told = FINDINGS["four_phases"].judge(
        type(evidence({"inter": FOUR}))(
            evidence({"inter": FOUR}).curves, {"blank": evidence({"inter": RISING}).curves}
        )
    )
    (blank,) = told.controls
    assert (blank.control, blank.note) == ("blank", "rise")
    assert blank.differs


@pytest.mark.parametrize("finding", IDS)
@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_a_model_of_few_layers_is_judged_all_the_same(finding: str, last: int) -> None:
    given = {"inter": FOUR[: last + 1], "recall": RECALL[: last + 1]}
    assert FINDINGS[finding].verdict(evidence(given, noise=0.01)).outcome in (HOLDS, FAILS, UNDECIDED)


def test_layers_are_told_as_spans() -> None:
    assert _spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert _spans([]) == ""


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
def test_without_its_curve_a_finding_is_undecided_and_says_why(finding: str, curve: str, part: str) -> None:
    given = evidence({"inter": FOUR, curve: np.full(41, np.nan)})
    lacking = Curves(given.curves.table, given.curves.items, {"unmeasured": {part: "so it is"}})
    found = FINDINGS[finding].verdict(Evidence(lacking, {}))
    assert found.outcome is UNDECIDED
    assert f"{curve}: not measured; so it is" in found.detail
    assert found.as_dict()["value"] is None


def test_sinks_are_judged_where_there_is_attention() -> None:
    """A model that attends at every fourth layer only."""
    ratio = np.where(np.arange(41) % 4 == 0, np.linspace(2, 4, 41), np.nan)
    found = judged("attention_sinks", ratio_first5=ratio)
    assert found.outcome is HOLDS
    assert "10 of 10 layers" in found.detail


def test_saliency_is_judged_where_there_is_attention() -> None:
    total = through({0: 0.2, 20: 0.2, 21: 1.0, 36: 1.0, 37: 0.1, 40: 0.1})
    total[np.arange(41) % 4 != 0] = np.nan
    assert judged("attention_rise_and_drop", total=total).outcome is HOLDS


@pytest.mark.parametrize("finding", ["four_phases", "attention_sinks", "attention_rise_and_drop"])
@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_that_is_the_same_in_every_image_is_not_judged(finding: str, sign: int) -> None:
    """The paper's shapes at a ten-millionth of their size: no interval over images is wider than they are."""
    grain = sign * 1e-7
    given = {
        "inter": 0.3 + grain * FOUR,
        "ratio_first5": 1 + grain * through({0: 1.5, 20: 2, 40: 6}),
        "total": 1 + grain * through({0: 1, 20: 2, 37: 8, 40: 3}),
    }
    found = judged(finding, noise=0, **given)
    assert found.outcome is (FAILS if finding == "four_phases" else UNDECIDED)


@pytest.mark.parametrize(
    ("last", "peak", "near"),
    [(26, 24, True), (19, 14, True), (24, 17, True), (20, 14, True), (20, 13, False)],
)
def test_a_peak_is_near_within_a_tenth_and_half_a_layer(last: int, peak: int, near: bool) -> None:
    """0.825 is no layer's depth: of 26 layers the 24th lies 0.098 from it."""
    layers = np.arange(last + 1)
    recall = 0.3 - 0.01 * np.abs(layers - peak)
    found = judged("lens_recall_peak", noise=0.001, recall=recall, recall_other=0 * recall, lift=recall)
    told = "nearness of the peak" in found.detail
    assert (found.outcome is HOLDS or not told) is near, found.detail


@pytest.mark.parametrize("images", [3, 60])
@pytest.mark.parametrize("finding", ["lens_recall_peak", "lens_follows_phases"])
def test_a_lens_that_decodes_nothing_has_its_peak_anywhere(finding: str, images: int) -> None:
    flat = {"inter": FOUR, "recall": 0 * FOUR, "recall_other": 0 * FOUR, "lift": 0 * FOUR}
    told = FINDINGS[finding].verdict(evidence(flat, noise=0.0, images=images))
    assert told.outcome is Outcome.UNDECIDED


def test_layers_at_the_edge_of_the_papers_depth_are_near_it() -> None:
    """33/40 and a tenth of 40 layers on either side: 29 to 37, whatever floats make of it."""
    for last in (40, 80):
        near = [layer for layer in range(last + 1) if _near(np.eye(last + 1)[layer]) > 0]
        assert (near[0], near[-1]) == (29 * last // 40, 37 * last // 40)


def test_the_interval_that_is_shown_has_one_level() -> None:
    """Its upper end is not the corrected one, which lies half as far again from the value."""
    found = judged("inter_below_intra", noise=0.05, inter=FOUR)
    assert found.value - found.low == pytest.approx(found.high - found.value, rel=0.1)
