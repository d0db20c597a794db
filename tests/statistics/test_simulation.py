"""The simulation behind docs/statistics.md: its machinery, and a part that takes seconds."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import bootstrap

from phasebench.judge.findings.phases import FOUR, find_phases
from phasebench.judge.findings.verdict import Outcome
from phasebench.judge.statistics import estimates, unseen_hits_error
from tests.statistics import coverage, shapes
from tests.statistics.__main__ import PATH, SECTIONS, TEMPLATE, table
from tests.statistics.populations import JUDGED, MODELS, Population, recorded
from tests.statistics.verdicts import boundaries_row, margins_row, outcomes, population
from tests.support.synthetic import recalls

SMOL = Population.recorded_images("smol-llava", "scenes")


def test_a_population_has_the_recorded_mean_and_covariance() -> None:
    values = recorded("smol-llava", "scenes", "inter")[:, 0]
    sample = SMOL.sample(20_000, np.random.default_rng(0)).array("inter")
    assert sample.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=1e-3)
    assert np.cov(sample.T) == pytest.approx(np.cov(values.T, ddof=0), abs=2e-5)


def test_images_of_an_item_are_drawn_together() -> None:
    sample = Population.recorded_images("smol-llava", "scene-pairs").sample(40, np.random.default_rng(0))
    assert len(sample.items) == 40
    assert list(sample.items.values()) == [str(k // 2) for k in range(40)]


def test_the_simulated_interval_is_the_judged_one() -> None:
    curves = SMOL.sample(50, np.random.default_rng(0))
    values = curves.array("inter")
    mean, error, skew = coverage.moments(np.ones((1, 50)), values)
    below, above = coverage.half_widths(error, skew, 50)
    estimates_by_layer = estimates(curves, ("inter",), lambda means: means["inter"])
    assert [estimate.low for estimate in estimates_by_layer] == pytest.approx((mean - below)[0])
    assert [estimate.high for estimate in estimates_by_layer] == pytest.approx((mean + above)[0])
    assert [estimate.skew for estimate in estimates_by_layer] == pytest.approx(skew[0])


def test_bca_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=(60, 1))
    by_method = coverage.intervals(np.ones(60), values, np.random.default_rng(1), 20_000, 0)
    expected = bootstrap((values[:, 0],), np.mean, n_resamples=20_000, method="BCa", rng=2)
    assert [end[0] for end in by_method["BCa"]] == pytest.approx(list(expected.confidence_interval), abs=0.01)
    assert by_method["percentile"][0][0] < by_method["BCa"][0][0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("curve", ["inter", "ratio_first5"])
def test_the_judged_interval_has_its_coverage(model: str, curve: str) -> None:
    values = coverage.by_item(model, "scenes", curve)
    for images in (50, 100, 400):
        coverages = coverage.mean_coverage(values, images, np.random.default_rng(images), 1000)
        assert 0.93 <= np.median(coverages) <= 0.97
        assert coverages.min() > 0.925


@pytest.mark.parametrize("images", [24, 50, 100, 400])
def test_rare_hits_are_covered_too(images: int) -> None:
    """One image in fifteen has a hit: of 24 images a fifth of the samples has none, and no scatter."""
    values = np.where(np.arange(60) < 4, 0.2, 0.0)[:, None]
    hits_error = unseen_hits_error(recalls(values), ("recall",)) * 60 / images
    scatter_coverage, full_coverage = (
        coverage.mean_coverage(values, images, np.random.default_rng(images), 4000, extra_error)[0]
        for extra_error in (0.0, hits_error)
    )
    assert full_coverage >= 0.93
    assert (scatter_coverage < 0.82) == (images == 24)


@pytest.mark.parametrize("model", MODELS)
def test_the_simulated_error_of_recall_is_the_judged_one(model: str) -> None:
    judged = unseen_hits_error(recalls(recorded(model, "scenes", "recall")[:, 0]), ("lift",))
    assert coverage.unseen_error(model, "scenes", "lift", 60) == pytest.approx(judged)
    assert coverage.unseen_error(model, "scenes", "inter", 60) == 0


def test_layers_of_rare_events_are_detected() -> None:
    values = np.zeros((60, 2))
    values[:3, 0], values[:30, 1] = 1, 1
    assert coverage.has_rare_events(values).tolist() == [True, False]


@pytest.mark.parametrize("boundaries", [shapes.PAPER, shapes.EVEN, shapes.BUNDLED])
def test_a_shape_has_its_phases_and_heights(boundaries: tuple[int, ...]) -> None:
    curve = shapes.four(SMOL, boundaries, 50, 5)
    assert (find_phases(curve).pattern, find_phases(curve).boundaries) == (FOUR, boundaries)
    steps = shapes.steps((0, *boundaries, 30), 31)
    assert np.abs(steps @ curve) == pytest.approx(5 * SMOL.error(steps, 50))
    drawn = SMOL.around(inter=curve).sample(50_000, np.random.default_rng(0)).array("inter")
    assert (drawn @ steps.T).std(axis=0) / np.sqrt(50) == pytest.approx(SMOL.error(steps, 50), rel=0.02)


@pytest.mark.parametrize("shape", shapes.OTHER_SHAPES)
def test_other_shapes_have_other_phases(shape: str) -> None:
    assert find_phases(shapes.other_shape(shape, SMOL, 100, 20)).pattern != FOUR


@pytest.mark.parametrize("name", ["smol-llava, scenes", "independent layers"])
def test_four_real_phases_hold_and_flat_noise_does_not(name: str) -> None:
    base = population(name)
    real = base.around(inter=shapes.four(base, shapes.EVEN, 50, 7))
    assert outcomes(real, 50, 0, 20)[Outcome.HOLDS] == 1
    flat = base.around(inter=np.zeros(31))
    assert outcomes(flat, 50, 0, 20)[Outcome.HOLDS] <= 0.05


def test_rows_are_written_as_table_rows() -> None:
    rows = [
        coverage.means_row(("smol-llava", "scenes", "lift"), 50),
        coverage.rare_row("lift", 20),
        coverage.sides_row(("scene-pairs", 24), 30),
        coverage.methods_row(("smol-llava", "scenes", "inter", 24), 3, 50),
        margins_row(("smol-llava, scenes", "at one layer", 50), 3),
        boundaries_row(("smol-llava, scenes", "plateau", shapes.EVEN, 50, 15), 1),
    ]
    assert all(row.startswith("| ") and row.endswith(" |") for row in rows)
    assert table(("a", "b"), ["| 1 | 2 |"]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_the_page_has_every_section() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert all(f"{{{name}}}" in text for name in SECTIONS)
    page = PATH.read_text(encoding="utf-8")
    assert all(part in page for part in re.split(r"\{\w+\}", text))
    assert all(f"`{curve}`" in page for curve in JUDGED)
