"""The whole chain on models whose curves are known by construction: load, pass, findings, verdict.

The known curves are in ``tests/oracles``; docs/oracles.md says what each oracle proves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.curves import Array
from phasebench.judge.findings.finding import FINDINGS, Evidence
from phasebench.judge.findings.phases import FALL, FOUR, RISE, find_phases, fit_pattern, heights
from phasebench.judge.findings.verdict import Outcome, Verdict
from phasebench.measurement.measure import Measurement, measure
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings
from tests.oracles import expected
from tests.oracles.catalogue import (
    BOUNDARIES,
    CATALOGUE,
    FIRST,
    LAST,
    decoy,
    flat,
    four_phases,
    lens,
    massive,
    paper,
    phases,
    saliency,
    sinks,
)
from tests.oracles.folder import write_model, write_pictures
from tests.oracles.plan import Picture, Plan, pictures
from tests.support.runs import Run
from tests.support.synthetic import through

HOLDS, FAILS = Outcome.HOLDS, Outcome.DOES_NOT_HOLD
EXACT = 1e-4
"""Largest accepted error of a known number; the pass comes to a hundredth of it."""
IMAGES = 6
NOISE = 0.01
MOVED = ((1, 5, 10), (3, 5, 10), (2, 4, 10), (2, 6, 10), (2, 5, 9), (2, 5, 11))
"""Each of the boundaries (2, 5, 10) a layer earlier and a layer later."""
SLOW_VARIANT = pytest.mark.slow
"""Of noise and boundaries that add little to the first of their kind, so that the quick tests stay quick."""
SLOW_PLANS = ("two phases", "three phases", "scattered sinks", "massive text", "as in the paper")
"""Plans that resemble another one of the catalogue."""
MeasurePlan = Callable[..., Measurement]


@pytest.fixture
def measure_plan(tmp_path: Path) -> MeasurePlan:
    """From a plan to its measurement, through a checkpoint's folder and pictures on disk."""

    def measurement_of_plan(plan: Plan, picture_list: list[Picture] | None = None) -> Measurement:
        number = len(list(tmp_path.iterdir()))
        folder = write_model(plan, tmp_path / str(number) / "model")
        samples = write_pictures(picture_list or pictures(plan, IMAGES), tmp_path / str(number) / "pictures")
        loaded = load(ModelSpec("oracle", folder), tmp_path, Settings(device="cpu"))
        return measure(loaded, "pictures", samples, Settings(batch_size=3), lambda *_: None)

    return measurement_of_plan


def largest_errors(measurement: Measurement, expected_curves: dict[str, Array]) -> dict[str, float]:
    """The largest error of each curve; infinite where only one of the two is NaN."""
    errors = {}
    for name, values in expected_curves.items():
        error = np.abs(measurement.curves.array(name) - values)
        agree = np.isnan(measurement.curves.array(name)) == np.isnan(values)
        errors[name] = float(np.nanmax(error)) if agree.all() else np.inf
    return errors


def verdict(measurement: Measurement, finding: str) -> Verdict:
    return FINDINGS[finding].verdict(Evidence(measurement.curves, measurement.controls))


def phases_of_curve(
    measurement: Measurement, curve: str = "inter"
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pattern and boundaries of a measured curve."""
    fit = find_phases(measurement.curves.mean(curve))
    return fit.pattern, fit.boundaries


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        *(pytest.param(name, 0.0, marks=[SLOW_VARIANT] * (name in SLOW_PLANS)) for name in CATALOGUE),
        *(pytest.param(name, NOISE, marks=[SLOW_VARIANT] * (name != "four phases")) for name in CATALOGUE),
    ],
)
def test_every_curve_is_the_planned_one(measure_plan: MeasurePlan, name: str, noise: float) -> None:
    plan = CATALOGUE[name]
    picture_list = pictures(plan, IMAGES, noise=noise, missing_words=25 * noise)
    measurement = measure_plan(plan, picture_list)
    expected_curves = expected.curves(plan, picture_list)
    errors = largest_errors(measurement, expected_curves)
    assert set(errors) == set(CURVES)
    assert max(errors.values()) < EXACT, errors
    assert measurement.heatmap is not None
    assert np.allclose(measurement.heatmap, expected.norms(plan), rtol=1e-3, atol=0)
    assert not measurement.selftest.unmeasured
    fit = find_phases(plan.inter)
    assert name == "flat" or phases_of_curve(measurement) == (fit.pattern, fit.boundaries)


def test_the_closed_form_is_the_plan() -> None:
    """The expected curves are the planned ones, picture by picture; noise has the chosen size."""
    plan = four_phases()
    for noise in (0.0, NOISE):
        curves = expected.curves(plan, pictures(plan, 100, noise=noise))
        assert np.allclose(curves["intra_visual"], plan.intra_visual)
        assert np.allclose(curves["intra_text"], plan.intra_text)
        spread = curves["inter"] - plan.inter
        assert np.abs(spread.mean(0)).max() < 4 * noise / 10 + 1e-12
        assert spread.std(0) == pytest.approx(noise, rel=0.3, abs=1e-12)


def test_a_patch_may_have_an_angle_of_its_own(measure_plan: MeasurePlan) -> None:
    """Noise between the patches of one picture lowers intra as well, by a known amount."""
    plan = four_phases()
    rng = np.random.default_rng(0)
    picture_list = [
        Picture(0.4 * rng.standard_normal(picture.angles.shape), picture.nouns)
        for picture in pictures(plan, 4)
    ]
    expected_curves = expected.curves(plan, picture_list)
    assert (expected_curves["intra_visual"].mean(0) < plan.intra_visual - 0.05).all()
    assert max(largest_errors(measure_plan(plan, picture_list), expected_curves).values()) < EXACT


def test_a_blank_picture_has_no_noise(measure_plan: MeasurePlan) -> None:
    plan = four_phases()
    blank = measure_plan(plan, pictures(plan, 4, noise=0.05)).controls["blank"]
    assert np.abs(blank.array("inter")[0] - plan.inter).max() < EXACT
    assert np.abs(blank.array("intra_visual")[0] - plan.intra_visual).max() < EXACT


def test_a_model_that_sees_the_same_in_every_picture_does_not_differ_from_blank(
    measure_plan: MeasurePlan,
) -> None:
    """Pictures and the blank one are rounded differently, in batches of different sizes."""
    measurement = measure_plan(sinks(), pictures(sinks(), 5, missing_words=1.0))
    for finding in ("inter_below_intra", "four_phases", "attention_sinks", "attention_rise_and_drop"):
        (blank,) = verdict(measurement, finding).controls
        assert blank.differs is False


@pytest.mark.parametrize(
    ("boundaries", "noise"),
    [
        (BOUNDARIES, 0.0),
        *((moved, NOISE) for moved in (BOUNDARIES, *MOVED[:2])),
        *(pytest.param(moved, NOISE, marks=SLOW_VARIANT) for moved in MOVED[2:]),
    ],
    ids=str,
)
def test_a_moved_boundary_moves_the_phases(
    measure_plan: MeasurePlan, boundaries: tuple[int, ...], noise: float
) -> None:
    plan = four_phases(boundaries)
    measurement = measure_plan(plan, pictures(plan, IMAGES, noise=noise))
    assert phases_of_curve(measurement) == (FOUR, boundaries)
    result = verdict(measurement, "four_phases")
    assert result.outcome is HOLDS
    assert all(f" {layer} [" in result.detail for layer in boundaries)
    planned = heights(plan.inter, fit_pattern(plan.inter, FOUR))  # the value is the smallest of their heights
    assert np.abs(planned - result.value).min() < (EXACT if noise == 0 else 3 * noise)


def test_a_tolerance_that_lets_a_moved_boundary_pass_would_prove_nothing(measure_plan: MeasurePlan) -> None:
    measurement = measure_plan(four_phases())
    moved = four_phases((2, 6, 10))
    errors = largest_errors(measurement, expected.curves(moved, pictures(moved, IMAGES)))
    assert errors["inter"] > 100 * EXACT
    assert errors["intra_visual"] < EXACT


@pytest.mark.parametrize(
    ("plan", "pattern", "boundaries"),
    [
        (phases((0.1, 0.6), ()), (RISE,), ()),
        (phases((0.1, 0.6, 0.2), (7,)), (RISE, FALL), (7,)),
        (phases((0.6, 0.1, 0.5), (4,)), (FALL, RISE), (4,)),
        (phases((0.1, 0.5, 0.2, 0.6), (4, 8)), (RISE, FALL, RISE), (4, 8)),
        (phases((0.5, 0.1, 0.6, 0.2, 0.6), (3, 6, 9)), (FALL, RISE, FALL, RISE), (3, 6, 9)),
    ],
    ids=["one", "two", "two the other way", "three", "four the other way"],
)
def test_other_phases_do_not_pass_as_the_papers(
    measure_plan: MeasurePlan, plan: Plan, pattern: tuple[int, ...], boundaries: tuple[int, ...]
) -> None:
    measurement = measure_plan(plan, pictures(plan, IMAGES, noise=NOISE))
    assert phases_of_curve(measurement) == (pattern, boundaries)
    assert verdict(measurement, "four_phases").outcome is FAILS


@pytest.mark.parametrize(("dip", "outcome"), [(0.13, HOLDS), (0.05, HOLDS), (0.01, HOLDS), (0.002, FAILS)])
def test_how_deep_a_phase_has_to_be_to_count(measure_plan: MeasurePlan, dip: float, outcome: Outcome) -> None:
    """Phase II counts from half a hundredth of the curve's range on, where all images agree on it."""
    plan = phases((0.0, 0.3, 0.3 - 0.7 * dip, 0.7, 0.5), (1, 3, 10))
    result = verdict(measure_plan(plan), "four_phases")
    assert result.outcome is outcome
    assert result.value == pytest.approx(0.7 * dip, abs=EXACT)


@pytest.mark.parametrize("noise", [0.0, NOISE], ids=["still", "noisy"])
def test_a_flat_curve_has_no_phases(measure_plan: MeasurePlan, noise: float) -> None:
    plan = flat()
    measurement = measure_plan(plan, pictures(plan, IMAGES, noise=noise))
    assert verdict(measurement, "four_phases").outcome is not HOLDS
    if noise == 0:
        assert len(phases_of_curve(measurement)[0]) == 1


def test_phases_within_the_modalities_alone_are_not_the_papers(measure_plan: MeasurePlan) -> None:
    """The decoy: a detector that looked at intra would find four phases with the right boundaries."""
    plan = decoy()
    measurement = measure_plan(plan, pictures(plan, IMAGES, noise=NOISE))
    for curve in ("intra_visual", "intra_text"):
        assert phases_of_curve(measurement, curve) == (FOUR, BOUNDARIES)
    assert phases_of_curve(measurement) == ((RISE,), ())
    assert verdict(measurement, "four_phases").outcome is not HOLDS
    assert verdict(measurement, "lens_follows_phases").outcome is not HOLDS


@pytest.mark.parametrize("layer", [3, 11])
def test_the_layer_where_inter_exceeds_intra_is_named(measure_plan: MeasurePlan, layer: int) -> None:
    """The planned margin is 0.1 everywhere but at one layer, where it is -0.05."""
    inter = np.full(LAST + 1, 0.3)
    intra = np.where(np.arange(LAST + 1) == layer, 0.25, 0.4)
    plan = phases((0.1, 0.6), ())
    plan = type(plan)(inter, np.full(LAST + 1, 0.85), intra, plan.decoded_words, plan.attention)
    result = verdict(measure_plan(plan), "inter_below_intra")
    assert result.outcome is FAILS
    assert result.value == pytest.approx(-0.05, abs=EXACT)
    assert f"at layers {layer}" in result.detail


@pytest.mark.parametrize("start", [5, 6, 7])
def test_the_heatmap_shows_sinks_from_their_layer_on(measure_plan: MeasurePlan, start: int) -> None:
    measurement = measure_plan(sinks((0, 3, 18), start))
    assert measurement.heatmap is not None
    share = measurement.heatmap[:, [0, 3, 18]].sum(1) / measurement.heatmap.sum(1)
    assert share == pytest.approx(np.where(np.arange(1, LAST + 1) >= start, 0.7, 0.3), abs=EXACT)


@pytest.mark.parametrize(
    ("positions", "start", "outcome"),
    [(FIRST, 6, HOLDS), ((6, 9, 12, 15, 18), 6, FAILS), (FIRST, LAST + 1, Outcome.UNDECIDED)],
    ids=["on the first five", "on image tokens", "never stronger"],
)
def test_sinks_are_the_papers_on_the_first_five_positions_only(
    measure_plan: MeasurePlan, positions: tuple[int, ...], start: int, outcome: Outcome
) -> None:
    result = verdict(measure_plan(sinks(positions, start)), "attention_sinks")
    assert result.outcome is outcome
    if outcome is HOLDS:  # 0.3 on 5 positions, 0.7 on 16, before the sinks begin
        assert result.value == pytest.approx(0.3 / 5 / (0.7 / 16), abs=EXACT)
        assert "above 1 at 12 of 12 layers" in result.detail


@pytest.mark.parametrize(
    ("points", "outcome"),
    [({1: 0.2, 7: 0.5, 11: 1.0, 12: 0.3}, HOLDS), ({1: 0.2, 12: 1.0}, FAILS), ({1: 1.0, 12: 0.2}, FAILS)],
    ids=["rise and drop", "rise alone", "drop alone"],
)
def test_only_saliency_that_rises_and_drops_holds(
    measure_plan: MeasurePlan, points: dict[int, float], outcome: Outcome
) -> None:
    strength = through(points, LAST)[1:]
    result = verdict(measure_plan(saliency(strength)), "attention_rise_and_drop")
    assert result.outcome is outcome
    assert f"largest at layer {1 + strength.argmax()} of 12" in result.detail


@pytest.mark.parametrize(("positions", "layer"), [((0,), 4), ((0, 17), 5), ((3, 8), 7)])
def test_massive_states_are_counted_from_their_layer_on_and_left_out(
    measure_plan: MeasurePlan, positions: tuple[int, ...], layer: int
) -> None:
    """Without the sinks the curves are those of the same model without them."""
    plan = massive(positions, layer)
    curves = measure_plan(plan).curves
    assert curves.mean("sinks") == pytest.approx(np.where(np.arange(LAST + 1) >= layer, len(positions), 0))
    assert np.abs(curves.mean("inter_nosink") - plan.inter).max() < EXACT
    assert np.abs(curves.mean("inter") - plan.inter)[layer:].min() > 0.005


@pytest.mark.parametrize(
    "peak", [pytest.param(4, marks=SLOW_VARIANT), 9, pytest.param(10, marks=SLOW_VARIANT), 11]
)
def test_the_lens_peaks_at_the_planned_layer(measure_plan: MeasurePlan, peak: int) -> None:
    """Recall 7/8 at the peak and nowhere else, with a known lift; near depth 0.825 it is the paper's."""
    plan = lens(peak)
    measurement = measure_plan(plan, pictures(plan, 10, missing_words=0.1))
    recall = measurement.curves.mean("recall")
    assert int(recall.argmax()) == peak
    peaks, follows = (verdict(measurement, name) for name in ("lens_recall_peak", "lens_follows_phases"))
    assert (peaks.outcome is HOLDS) == (peak in (9, 10, 11))
    assert f"at layer {peak} of 12" in peaks.detail
    assert (follows.outcome is HOLDS) == (peak in (9, 10, 11))
    assert follows.value == pytest.approx((peak - 10) / 12)
    assert f"recall peaks at layer {peak} of 12 with" in follows.detail
    assert "phase IV begins at layer 10" in follows.detail


@pytest.mark.slow
def test_all_findings_of_the_paper_hold_in_the_papers_oracle(run: Run, tmp_path: Path) -> None:
    """``pytest --phasebench --model FOLDER --dataset FOLDER`` passes; its results have the known numbers."""
    plan = paper()
    picture_list = pictures(plan, 5, noise=0.003)
    folder, data = write_model(plan, tmp_path / "oracle"), tmp_path / "pictures"
    write_pictures(picture_list, data)
    args = ("-m", "finding", "--results", str(tmp_path / "results.json"))
    outcome = run(*args, model=str(folder), dataset=str(data))
    outcome.assert_outcomes(passed=6)
    assert outcome.ret == 0
    (entry,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    expected_curves = expected.curves(plan, picture_list)
    for name, values in expected_curves.items():
        got = np.array(entry["curves"][name]["mean"], dtype=float)
        assert got == pytest.approx(values.mean(0), abs=EXACT, nan_ok=True), name


def test_a_decoy_does_not_pass(run: Run, tmp_path: Path) -> None:
    plan = decoy()
    folder, data = write_model(plan, tmp_path / "oracle"), tmp_path / "pictures"
    write_pictures(pictures(plan, 5, noise=0.003), data)
    outcome = run("-m", "finding", "-k", "phases", model=str(folder), dataset=str(data))
    assert outcome.ret == pytest.ExitCode.TESTS_FAILED
    outcome.stdout.fnmatch_lines(["*four_phases*does not hold*"])
