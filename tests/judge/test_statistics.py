"""Intervals over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap, sem, skew, t, ttest_1samp

from phasebench.curves import Array, Curves
from phasebench.errors import InputError
from phasebench.judge.statistics import (
    DOWN,
    LEVEL,
    UP,
    WORD,
    Estimate,
    Means,
    estimate,
    estimates,
    jackknife_errors,
    jackknife_skews,
    percentile,
    plain,
    replicates,
    resampled_means,
    student,
    unseen_hits_error,
    weights,
)
from tests.support.synthetic import FOUR, curves, recalls


def one_layer(values: Array, items: list[str] | None = None) -> Curves:
    names = items or [str(k) for k in range(len(values))]
    return Curves.from_arrays({"inter": values[:, None]}, {str(k): name for k, name in enumerate(names)})


def only(means: Means) -> Array:
    return means["inter"][..., 0]


def test_without_a_hit_recall_may_be_three_words_in_so_many_images() -> None:
    """The rule of three: of a rate of 3 in n, 5 % of samples have none."""
    found = estimate(recalls(np.zeros((50, 3))), ("lift",), lambda means: means["lift"][..., 1])
    assert found.value == 0
    assert found.high == pytest.approx(3 * WORD / 50, rel=0.06)
    assert found.low == -found.high


def test_a_word_is_worth_what_the_images_least_hits_are() -> None:
    values = np.zeros((20, 3))
    values[:4, 1], values[:2, 2], values[9, 2] = 0.2, 0.6, 0.4  # five words; the last image has two at once
    assert unseen_hits_error(recalls(values), ("lift",)) == pytest.approx(
        np.sqrt(2) * np.mean([0.2] * 4 + [0.4]) / 20
    )


def test_images_without_caption_words_hide_none() -> None:
    values = np.full((20, 2), 0.25)
    values[5:] = np.nan
    assert unseen_hits_error(recalls(values), ("recall",)) == pytest.approx(np.sqrt(2) * 0.25 / 5)


def test_only_counted_words_hide_any() -> None:
    assert unseen_hits_error(curves({"inter": FOUR}, noise=0.1), ("inter",)) == 0


def test_weights_are_shares() -> None:
    drawn = weights([str(i) for i in range(30)], resamples=100)
    assert drawn.shape == (100, 30)
    assert np.allclose(drawn.sum(axis=1), 1)
    assert (drawn >= 0).all()


def test_images_of_one_item_are_drawn_together() -> None:
    drawn = weights(["a", "a", "b", "b", "c", "c"], resamples=50)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert np.array_equal(drawn[:, 4], drawn[:, 5])


def test_the_same_seed_gives_the_same_draws() -> None:
    items = [str(i) for i in range(9)]
    assert np.array_equal(weights(items, seed=3), weights(items, seed=3))
    assert not np.array_equal(weights(items, seed=3), weights(items, seed=4))


@pytest.mark.parametrize("count", [4, 10, 200])
def test_the_interval_of_a_mean_is_students(count: int) -> None:
    half = np.random.default_rng(count).gamma(2, size=count // 2)
    values = np.concatenate([half, -half])
    found, theirs = estimate(one_layer(values), ("inter",), only), ttest_1samp(values, 0)
    low, high = theirs.confidence_interval(LEVEL)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(values.mean())
    assert (found.items, found.images) == (count, count)


@pytest.mark.parametrize("count", [3, 10, 200])
def test_skewed_items_move_one_end_out(count: int) -> None:
    """By (2 t^2 + 1) / 6 sqrt(n) of the skewness, in standard errors: Edgeworth's first term."""
    values = np.random.default_rng(count).gamma(2, size=count)
    found, theirs = estimate(one_layer(values), ("inter",), only), ttest_1samp(values, 0)
    low, high = theirs.confidence_interval(LEVEL)
    further = (2 * t.isf(0.025, count - 1) ** 2 + 1) * skew(values) / 6 / np.sqrt(count) * sem(values)
    assert further > 0
    assert (found.low, found.high) == pytest.approx((low, high + further))
    mirrored = estimate(one_layer(-values), ("inter",), only)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.slow
def test_skewed_items_are_missed_less_on_the_long_side() -> None:
    rng, above, by_student = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        values = rng.exponential(size=25)
        found = estimate(one_layer(values), ("inter",), only)
        above += found.high < 1
        by_student += values.mean() + t.isf(0.025, 24) * sem(values) < 1
    assert by_student > 50
    assert above < 0.75 * by_student


def test_more_images_even_out_the_skewness() -> None:
    found = student(0, 1, 25, 25, skew=0.05)
    more = found.with_images(100)
    assert (more.skew, more.error) == (0.025, 0.5)
    assert found.half_width(UP) > found.half_width(DOWN) == pytest.approx(t.isf(0.025, 24))
    assert more.half_width(UP) / more.half_width(DOWN) < found.half_width(UP) / found.half_width(DOWN)


def test_the_words_that_recall_allows_for_are_its_skewness() -> None:
    values = np.zeros((50, 3))
    values[:5] = 0.2
    found = estimate(recalls(values), ("recall",), lambda means: means["recall"][..., 1])
    assert found.skew == 0
    assert found.high - found.value == pytest.approx(found.value - found.low)


def test_the_error_of_a_ratio_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(0)
    a, b = 2 + 0.1 * rng.standard_normal(300), 5 + 0.2 * rng.standard_normal(300)
    both = Curves.from_arrays(
        {"inter": a[:, None], "total": b[:, None]}, {str(k): str(k) for k in range(300)}
    )
    found = estimate(both, ("inter", "total"), lambda means: (means["inter"] / means["total"])[..., 0])
    ratio = a.mean() / b.mean()
    assert found.value == pytest.approx(ratio)
    assert found.error == pytest.approx((a - ratio * b).std(ddof=1) / b.mean() / np.sqrt(300), rel=0.01)


def test_clustering_widens_the_interval_of_copied_images() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=50), 2)
    pairs = [str(i // 2) for i in range(100)]
    together, apart = (estimate(one_layer(values, items), ("inter",), only) for items in (pairs, None))
    assert together.error == pytest.approx(np.sqrt(2) * apart.error, rel=0.02)
    assert (together.items, together.images) == (50, 100)


def test_items_of_different_sizes_weigh_by_their_images() -> None:
    values, items = np.array([1.0, 2.0, 6.0, 4.0]), ["a", "a", "b", "c"]
    value, left = replicates(one_layer(values, items), ("inter",), only)
    assert value == pytest.approx(3.25)
    assert left == pytest.approx([5.0, 7 / 3, 3.0])


def test_missing_values_are_left_out() -> None:
    measured = curves({"inter": FOUR}, images=10, noise=0.01)
    table = measured.table.copy()
    table.loc[("3", 5), "inter"] = np.nan
    broken = Curves(table, measured.items)
    assert resampled_means(broken, "inter")[:, 5].mean() == pytest.approx(FOUR[5], abs=0.02)
    value, left = replicates(broken, ("inter",), lambda means: means["inter"])
    assert value == pytest.approx(broken.mean("inter"))
    assert left[3, 5] == pytest.approx(value[5])
    assert np.isfinite(left).all()


def test_items_without_a_value_make_no_interval_surer() -> None:
    some = np.where(np.arange(100) < 4, np.arange(100.0), np.nan)
    few = estimate(one_layer(some), ("inter",), only)
    assert (few.items, few.images) == (4, 4)
    alone = estimate(one_layer(some[:4]), ("inter",), only)
    assert few.value == alone.value
    assert few.low <= alone.low < alone.high <= few.high
    assert few.half_width(UP) / few.error == pytest.approx(alone.half_width(UP) / alone.error)
    two = np.where(np.arange(100) < 2, 0.5, np.nan)
    assert np.isnan(estimate(one_layer(two), ("inter",), only).low)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_kept_as_none(value: float) -> None:
    assert plain(value, 3) is None
    assert plain(0.12345, 3) == 0.123


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_items_have_no_interval(images: int) -> None:
    found = estimate(one_layer(np.arange(images, dtype=float)), ("inter",), only)
    assert np.isnan([found.low, found.high]).all()
    assert found.value == (images - 1) / 2


def test_a_corrected_end_is_bonferronis() -> None:
    found = student(1.0, 0.1, 20, 20)
    corrected = found.corrected(60)
    assert corrected.low == found.low
    assert corrected.high == pytest.approx(1 + 0.1 * t.isf(0.025 / 60, 19))
    assert found.corrected(1).high == pytest.approx(found.high)


def test_what_more_images_leave_widens_the_interval() -> None:
    assert student(0, 3, 50, 50, fixed=4).high == pytest.approx(5 / 3 * student(0, 3, 50, 50).high)


def test_given_ends_stay_as_they_are() -> None:
    given = Estimate(1, 0, 2)
    assert given.corrected(9) is given
    assert np.isnan(given.error)
    assert np.isnan(given.half_width(UP))
    assert replace(given, error=0.0, fixed=2.0).half_width(UP) == pytest.approx(3.92, abs=1e-3)


def test_without_an_error_there_is_no_interval_however_many_items() -> None:
    """Without the one item that has a value there is no mean, and so nothing that a jackknife could tell."""
    values = np.full((5, 3), 0.3)
    values[1:, 2] = np.nan
    found = estimate(
        Curves.from_arrays({"inter": values}, {str(k): str(k) for k in range(5)}),
        ("inter",),
        lambda means: means["inter"][..., 2],
    )
    assert (found.value, found.items) == (0.3, 5)
    assert np.isnan([found.error, found.low, found.high]).all()
    assert np.isnan(found.corrected(9).high)


def test_a_percentile_interval_of_layers_is_no_finer_than_a_layer() -> None:
    found = percentile(3, np.full(100, 3.0), 1.0)
    assert (found.low, found.high, found.error) == (3, 3, 0)
    assert found.fixed == pytest.approx(1 / np.sqrt(12))


def test_a_percentile_interval_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=(40, 1))
    means = resampled_means(one_layer(values[:, 0]), "inter", weights([str(k) for k in range(40)], 4000))
    found = percentile(values.mean(), means[:, 0])
    theirs = bootstrap((values[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_an_estimate_of_nothing_is_nan() -> None:
    found = percentile(0.0, np.array([np.nan, np.nan]))
    assert np.isnan(found.low)
    assert np.isnan(found.high)


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
def test_a_statistic_that_takes_items_for_layers_is_told(statistic: Callable[[Means], Array]) -> None:
    """Some of these give a number of the images' mean, and an error that would be anything."""
    with pytest.raises(InputError, match=r"layers are the last axis, so that layer 3 is \[\.\.\., 3\]"):
        estimate(curves({"inter": FOUR}, images=30, noise=0.01), ("inter",), statistic)


def test_each_number_has_its_own_interval() -> None:
    measured = curves({"inter": FOUR}, images=30, noise=0.01)
    found = estimates(measured, ("inter",), lambda means: means["inter"])
    assert [one.value for one in found] == pytest.approx(measured.mean("inter"))
    assert [one.error for one in found] == pytest.approx(measured.summary("inter")["se"])


def test_the_jackknife_of_nothing_that_varies_is_0() -> None:
    assert jackknife_errors(np.ones((5, 3))).tolist() == [0, 0, 0]
    assert jackknife_skews(np.ones((5, 3))).tolist() == [0, 0, 0]
    assert jackknife_skews(np.full((5, 1), np.nan)).tolist() == [0]
