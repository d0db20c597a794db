"""Curves: the table that measuring hands to judging and reporting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phasebench.catalog import ATTENTION, CURVES, LENS, SIMILARITY
from phasebench.curves import Curves


def random_curves(images: int = 6, layers: int = 5, seed: int = 0, first: int = 0) -> Curves:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=(images, layers)) for name in ("inter", "total")}
    arrays["total"][:, 0] = np.nan
    ids = [f"im{first + i}" for i in range(images)]
    return Curves.from_arrays(arrays, {image: image for image in ids}, {"dtype": "float32"})


def test_the_names_are_those_of_the_measures() -> None:
    assert (*SIMILARITY, *ATTENTION, *LENS) == CURVES
    assert len(set(CURVES)) == len(CURVES)


def test_an_unknown_curve_is_reported_with_the_names_of_all() -> None:
    with pytest.raises(KeyError, match="there is no curve 'nope'; there are inter, total"):
        random_curves().mean("nope")


def test_arrays_go_in_and_come_out() -> None:
    values = np.arange(12.0).reshape(3, 4)
    curves = Curves.from_arrays({"inter": values}, {"c": "c", "a": "a", "b": "b"})
    assert np.array_equal(curves.array("inter"), values)
    assert curves.names == ["inter"]
    assert curves.last == 3
    assert curves.table.loc[("a", 2), "inter"] == 6


def test_curves_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Curves.from_arrays({"a": np.zeros((1, 3)), "b": np.zeros((1, 4))}, {"x": "x"})


def test_the_summary_is_mean_error_and_count() -> None:
    curves = random_curves(images=40)
    table = curves.summary("inter")
    values = curves.array("inter")
    assert np.allclose(table["mean"], values.mean(axis=0))
    assert np.allclose(table["se"], values.std(axis=0, ddof=1) / 40**0.5)
    assert (table["n"] == 40).all()


def test_a_layer_without_values_has_no_mean() -> None:
    table = random_curves().summary("total")
    assert np.isnan(table["mean"][0])
    assert table["n"][0] == 0
    assert np.isfinite(table["mean"][1:]).all()


def test_the_error_counts_items_not_images() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 2, axis=0)
    pairs = Curves.from_arrays({"inter": values}, {str(i): str(i // 2) for i in range(40)})
    expected = values[::2].std(axis=0, ddof=1) / 20**0.5
    assert np.allclose(pairs.summary("inter")["se"], expected)


def test_the_summary_is_pandas_own_with_gaps_and_items() -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random((30, 8)) < 0.2, np.nan, rng.normal(size=(30, 8)))
    values[:, 0], values[1:, 1], values[4:, 2] = np.nan, np.nan, np.nan
    curves = Curves.from_arrays({"inter": values}, {str(i): str(i // 3) for i in range(30)})
    frame = pd.DataFrame(values)
    item_means = frame.groupby([i // 3 for i in range(30)]).mean()
    table = curves.summary("inter")
    assert np.allclose(table["mean"], frame.mean(), equal_nan=True, atol=1e-12)
    assert np.allclose(table["se"], item_means.sem(), equal_nan=True, atol=1e-12)
    assert list(table["n"]) == list(frame.count())
