"""A row as bytes: nothing is lost, and damaged bytes never give a row."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from phasebench.measurement.packing import READ_ERRORS, pack, unpack
from phasebench.measurement.passes import Row


def test_curves_come_back_exactly_and_norms_to_three_digits(row: Row) -> None:
    unpacked = unpack(pack(row))
    assert list(unpacked.curves) == list(row.curves)
    assert all(np.array_equal(unpacked.curves[name], row.curves[name], equal_nan=True) for name in row.curves)
    assert np.array_equal(unpacked.tokens, row.tokens)
    assert unpacked.layout == row.layout
    assert (unpacked.seconds, unpacked.plain_seconds) == (row.seconds, row.plain_seconds)
    assert np.allclose(unpacked.norms, row.norms, rtol=1e-3, atol=1e-6 * row.norms.max())
    assert np.array_equal(unpack(pack(unpacked)).norms, unpacked.norms)


def test_layers_without_attention_and_infinite_norms_survive_the_packing(row: Row) -> None:
    row.norms[0], row.norms[-1, 0] = np.nan, np.inf
    unpacked = unpack(pack(row))
    assert np.isnan(unpacked.norms[0]).all()
    assert np.isinf(unpacked.norms[-1, 0])


def test_a_layer_whose_norms_are_all_zero_survives_the_packing(row: Row) -> None:
    norms = np.array([[0.0, 0.0], [np.nan, np.nan]])
    assert np.array_equal(unpack(pack(replace(row, norms=norms))).norms, norms, equal_nan=True)


def test_a_row_of_the_papers_model_takes_less_than_the_documented_size() -> None:
    """LLaVA-1.5-13B: 41 x 576 tokens of 32000, 40 x 617 norms, at the worst: tokens without any order."""
    rng = np.random.default_rng(0)
    curves = {f"curve{i}": rng.normal(size=41).astype(np.float32).astype(float) for i in range(18)}
    tokens = rng.integers(0, 32000, (41, 576)).astype(np.int32)
    norms = rng.lognormal(size=(40, 617))
    layout = {"length": 617, "visual": [[5, 581]], "text": 41}
    assert len(pack(Row(curves, tokens, norms, layout, 0.1))) < 100_000


def test_no_flipped_bit_and_no_truncation_gives_a_row(row: Row) -> None:
    whole = pack(row)
    rng = random.Random(0)
    damaged = [
        bytes([*whole[:at], whole[at] ^ (1 << rng.randrange(8)), *whole[at + 1 :]])
        for at in range(0, len(whole), 3)
    ]
    damaged += [whole[:length] for length in range(0, len(whole), 97)]
    for data in damaged:
        with pytest.raises(READ_ERRORS):
            unpack(data)
