"""Intervals over images."""

from __future__ import annotations

import numpy as np
import pytest

from phasebench.judge.statistics import estimate, resampled_means, weights
from tests.synthetic import FOUR, curves


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


def test_the_interval_of_a_mean_is_that_of_the_normal_theory() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    means = weights([str(i) for i in range(400)], resamples=4000) @ values
    found = estimate(values.mean(), means)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_clustering_widens_the_interval_of_copied_images() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=50), 2)
    pairs = [str(i // 2) for i in range(100)]
    together, apart = (
        estimate(0, weights(items) @ values) for items in (pairs, [str(i) for i in range(100)])
    )
    assert together.high - together.low > 1.25 * (apart.high - apart.low)


def test_resampled_means_leave_missing_values_out() -> None:
    measured = curves({"inter": FOUR}, images=10, noise=0.01)
    table = measured.table.copy()
    table.loc[("3", 5), "inter"] = np.nan
    broken = type(measured)(table, measured.items)
    means = resampled_means(broken, "inter")
    assert np.isfinite(means).all()
    assert means[:, 5].mean() == pytest.approx(FOUR[5], abs=0.02)


def test_an_estimate_of_nothing_is_nan() -> None:
    found = estimate(0.0, np.array([np.nan, np.nan]))
    assert np.isnan(found.low)
    assert np.isnan(found.high)
