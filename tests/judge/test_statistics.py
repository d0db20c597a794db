"""Intervals over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap, sem, skew, t, ttest_1samp

from phasebench.catalog import WORD
from phasebench.curves import Array, Curves
from phasebench.errors import InputError
from phasebench.judge.statistics import (
    DOWN,
    LEVEL,
    UP,
    Estimate,
    Means,
    bootstrap_weights,
    estimate,
    estimates,
    jackknife_errors,
    jackknife_skews,
    percentile_estimate,
    replicates,
    resampled_means,
    rounded_number,
    student_estimate,
    unseen_hits_error,
)
from tests.support.synthetic import FOUR, curves, recalls


def one_layer(values: Array, items: list[str] | None = None) -> Curves:
    names = items or [str(k) for k in range(len(values))]
    return Curves.from_arrays({"inter": values[:, None]}, {str(k): name for k, name in enumerate(names)})


def single_layer(means: Means) -> Array:
    return means["inter"][..., 0]


def test_recall_without_a_hit_allows_three_words_in_all_images() -> None:
    """The rule of three: of a rate of 3 in n, 5 % of samples have none."""
    result = estimate(recalls(np.zeros((50, 3))), ("lift",), lambda means: means["lift"][..., 1])
    assert result.value == 0
    assert result.high == pytest.approx(3 * WORD / 50, rel=0.06)
    assert result.low == -result.high


def test_a_word_counts_as_the_smallest_hits_of_the_images() -> None:
    values = np.zeros((20, 3))
    values[:4, 1], values[:2, 2], values[9, 2] = 0.2, 0.6, 0.4  # five words; the last image has two at once
    assert unseen_hits_error(recalls(values), ("lift",)) == pytest.approx(
        np.sqrt(2) * np.mean([0.2] * 4 + [0.4]) / 20
    )


def test_images_without_caption_words_do_not_count() -> None:
    values = np.full((20, 2), 0.25)
    values[5:] = np.nan
    assert unseen_hits_error(recalls(values), ("recall",)) == pytest.approx(np.sqrt(2) * 0.25 / 5)


def test_curves_without_words_have_no_such_error() -> None:
    assert unseen_hits_error(curves({"inter": FOUR}, noise=0.1), ("inter",)) == 0


def test_weights_are_shares() -> None:
    weights = bootstrap_weights([str(i) for i in range(30)], resamples=100)
    assert weights.shape == (100, 30)
    assert np.allclose(weights.sum(axis=1), 1)
    assert (weights >= 0).all()


def test_images_of_one_item_are_drawn_together() -> None:
    weights = bootstrap_weights(["a", "a", "b", "b", "c", "c"], resamples=50)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert np.array_equal(weights[:, 4], weights[:, 5])


def test_the_same_seed_gives_the_same_draws() -> None:
    items = [str(i) for i in range(9)]
    assert np.array_equal(bootstrap_weights(items, seed=3), bootstrap_weights(items, seed=3))
    assert not np.array_equal(bootstrap_weights(items, seed=3), bootstrap_weights(items, seed=4))


@pytest.mark.parametrize("count", [4, 10, 200])
def test_the_interval_of_a_mean_is_students(count: int) -> None:
    half = np.random.default_rng(count).gamma(2, size=count // 2)
    values = np.concatenate([half, -half])
    result, expected = estimate(one_layer(values), ("inter",), single_layer), ttest_1samp(values, 0)
    low, high = expected.confidence_interval(LEVEL)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert result.value == pytest.approx(values.mean())
    assert (result.items, result.images) == (count, count)


@pytest.mark.parametrize("count", [3, 10, 200])
def test_skewed_items_move_one_end_outwards(count: int) -> None:
    """By (2 t^2 + 1) / 6 sqrt(n) of the skewness, in standard errors: Edgeworth's first term."""
    values = np.random.default_rng(count).gamma(2, size=count)
    result, expected = estimate(one_layer(values), ("inter",), single_layer), ttest_1samp(values, 0)
    low, high = expected.confidence_interval(LEVEL)
    shift = (2 * t.isf(0.025, count - 1) ** 2 + 1) * skew(values) / 6 / np.sqrt(count) * sem(values)
    assert shift > 0
    assert (result.low, result.high) == pytest.approx((low, high + shift))
    mirrored = estimate(one_layer(-values), ("inter",), single_layer)
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))


@pytest.mark.slow
def test_skewed_items_are_missed_less_on_the_long_side() -> None:
    rng, missed_above, missed_by_student = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        values = rng.exponential(size=25)
        result = estimate(one_layer(values), ("inter",), single_layer)
        missed_above += result.high < 1
        missed_by_student += values.mean() + t.isf(0.025, 24) * sem(values) < 1
    assert missed_by_student > 50
    assert missed_above < 0.75 * missed_by_student


def test_more_images_even_out_the_skewness() -> None:
    result = student_estimate(0, 1, 25, 25, skew=0.05)
    more = result.with_images(100)
    assert (more.skew, more.error) == (0.025, 0.5)
    assert result.half_width(UP) > result.half_width(DOWN) == pytest.approx(t.isf(0.025, 24))
    assert more.half_width(UP) / more.half_width(DOWN) < result.half_width(UP) / result.half_width(DOWN)


def test_the_words_that_recall_allows_for_are_its_skewness() -> None:
    values = np.zeros((50, 3))
    values[:5] = 0.2
    result = estimate(recalls(values), ("recall",), lambda means: means["recall"][..., 1])
    assert result.skew == 0
    assert result.high - result.value == pytest.approx(result.value - result.low)


def test_the_error_of_a_ratio_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(0)
    a, b = 2 + 0.1 * rng.standard_normal(300), 5 + 0.2 * rng.standard_normal(300)
    two_curves = Curves.from_arrays(
        {"inter": a[:, None], "total": b[:, None]}, {str(k): str(k) for k in range(300)}
    )
    result = estimate(two_curves, ("inter", "total"), lambda means: (means["inter"] / means["total"])[..., 0])
    ratio = a.mean() / b.mean()
    assert result.value == pytest.approx(ratio)
    assert result.error == pytest.approx((a - ratio * b).std(ddof=1) / b.mean() / np.sqrt(300), rel=0.01)


def test_clustering_widens_the_interval_of_copied_images() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=50), 2)
    pairs = [str(i // 2) for i in range(100)]
    paired_estimate, single_estimate = (
        estimate(one_layer(values, items), ("inter",), single_layer) for items in (pairs, None)
    )
    assert paired_estimate.error == pytest.approx(np.sqrt(2) * single_estimate.error, rel=0.02)
    assert (paired_estimate.items, paired_estimate.images) == (50, 100)


def test_items_of_different_sizes_weigh_by_their_images() -> None:
    values, items = np.array([1.0, 2.0, 6.0, 4.0]), ["a", "a", "b", "c"]
    value, without_items = replicates(one_layer(values, items), ("inter",), single_layer)
    assert value == pytest.approx(3.25)
    assert without_items == pytest.approx([5.0, 7 / 3, 3.0])


def test_missing_values_are_left_out() -> None:
    measured = curves({"inter": FOUR}, images=10, noise=0.01)
    table = measured.table.copy()
    table.loc[("3", 5), "inter"] = np.nan
    broken = Curves(table, measured.items)
    assert resampled_means(broken, "inter")[:, 5].mean() == pytest.approx(FOUR[5], abs=0.02)
    value, without_items = replicates(broken, ("inter",), lambda means: means["inter"])
    assert value == pytest.approx(broken.mean("inter"))
    assert without_items[3, 5] == pytest.approx(value[5])
    assert np.isfinite(without_items).all()


def test_items_without_a_value_do_not_narrow_the_interval() -> None:
    values = np.where(np.arange(100) < 4, np.arange(100.0), np.nan)
    few = estimate(one_layer(values), ("inter",), single_layer)
    assert (few.items, few.images) == (4, 4)
    alone = estimate(one_layer(values[:4]), ("inter",), single_layer)
    assert few.value == alone.value
    assert few.low <= alone.low < alone.high <= few.high
    assert few.half_width(UP) / few.error == pytest.approx(alone.half_width(UP) / alone.error)
    two = np.where(np.arange(100) < 2, 0.5, np.nan)
    assert np.isnan(estimate(one_layer(two), ("inter",), single_layer).low)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_become_none(value: float) -> None:
    assert rounded_number(value, 3) is None
    assert rounded_number(0.12345, 3) == 0.123


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_items_have_no_interval(images: int) -> None:
    result = estimate(one_layer(np.arange(images, dtype=float)), ("inter",), single_layer)
    assert np.isnan([result.low, result.high]).all()
    assert result.value == (images - 1) / 2


def test_a_corrected_end_is_bonferronis() -> None:
    result = student_estimate(1.0, 0.1, 20, 20)
    corrected = result.corrected(60)
    assert corrected.low == result.low
    assert corrected.high == pytest.approx(1 + 0.1 * t.isf(0.025 / 60, 19))
    assert result.corrected(1).high == pytest.approx(result.high)


def test_an_error_that_more_images_do_not_reduce_widens_the_interval() -> None:
    assert student_estimate(0, 3, 50, 50, fixed=4).high == pytest.approx(
        5 / 3 * student_estimate(0, 3, 50, 50).high
    )


def test_an_estimate_without_an_error_keeps_its_ends() -> None:
    without_error = Estimate(1, 0, 2)
    assert without_error.corrected(9) is without_error
    assert np.isnan(without_error.error)
    assert np.isnan(without_error.half_width(UP))
    assert replace(without_error, error=0.0, fixed=2.0).half_width(UP) == pytest.approx(3.92, abs=1e-3)


def test_without_an_error_there_is_no_interval_however_many_items() -> None:
    """Without the one item that has a value there is no mean, and so nothing that a jackknife could tell."""
    values = np.full((5, 3), 0.3)
    values[1:, 2] = np.nan
    result = estimate(
        Curves.from_arrays({"inter": values}, {str(k): str(k) for k in range(5)}),
        ("inter",),
        lambda means: means["inter"][..., 2],
    )
    assert (result.value, result.items) == (0.3, 5)
    assert np.isnan([result.error, result.low, result.high]).all()
    assert np.isnan(result.corrected(9).high)


def test_a_percentile_interval_of_layers_is_no_finer_than_a_layer() -> None:
    result = percentile_estimate(3, np.full(100, 3.0), 1.0)
    assert (result.low, result.high, result.error) == (3, 3, 0)
    assert result.fixed == pytest.approx(1 / np.sqrt(12))


def test_a_percentile_interval_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=(40, 1))
    means = resampled_means(
        one_layer(values[:, 0]), "inter", bootstrap_weights([str(k) for k in range(40)], 4000)
    )
    result = percentile_estimate(values.mean(), means[:, 0])
    expected = bootstrap((values[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.03)


def test_an_estimate_without_finite_resamples_is_nan() -> None:
    result = percentile_estimate(0.0, np.array([np.nan, np.nan]))
    assert np.isnan(result.low)
    assert np.isnan(result.high)


@pytest.mark.parametrize(
    "statistic",
    [
        lambda means: means["inter"],
        lambda means: means["inter"][3],
        lambda means: means["inter"].mean(),
        lambda means: means["inter"].mean(axis=0),
    ],
    ids=["no axis", "first axis", "mean of all", "mean of items"],
)
def test_a_statistic_over_the_wrong_axis_is_rejected(statistic: Callable[[Means], Array]) -> None:
    """Some of these give a number of the images' mean, and an error that would be anything."""
    with pytest.raises(InputError, match=r"layers are the last axis, so that layer 3 is \[\.\.\., 3\]"):
        estimate(curves({"inter": FOUR}, images=30, noise=0.01), ("inter",), statistic)


def test_each_number_has_its_own_interval() -> None:
    measured = curves({"inter": FOUR}, images=30, noise=0.01)
    results = estimates(measured, ("inter",), lambda means: means["inter"])
    assert [result.value for result in results] == pytest.approx(measured.mean("inter"))
    assert [result.error for result in results] == pytest.approx(measured.summary("inter")["se"])


def test_the_jackknife_of_constant_values_is_0() -> None:
    assert jackknife_errors(np.ones((5, 3))).tolist() == [0, 0, 0]
    assert jackknife_skews(np.ones((5, 3))).tolist() == [0, 0, 0]
    assert jackknife_skews(np.full((5, 1), np.nan)).tolist() == [0]
