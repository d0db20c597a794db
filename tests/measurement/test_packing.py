"""A row as a file, and its name: nothing is lost, nothing wrong is read, nothing is taken for another."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from phasebench.datasets.sample import Sample
from phasebench.measurement.passes import Row
from phasebench.measurement.row_store import DAMAGED, _digest_of, names_of, pack, unpack
from phasebench.models.loading import Loaded


def test_a_row_comes_back_to_the_last_bit_and_its_norms_to_three_digits(row: Row) -> None:
    back = unpack(pack(row))
    assert all(np.array_equal(back.curves[name], row.curves[name], equal_nan=True) for name in row.curves)
    assert np.array_equal(back.tokens, row.tokens)
    assert (back.layout, back.seconds, back.plain) == (row.layout, row.seconds, row.plain)
    assert np.allclose(back.norms, row.norms, rtol=1e-3, atol=1e-6 * row.norms.max())
    again = unpack(pack(back))
    assert np.array_equal(again.norms, back.norms)


def test_layers_without_attention_and_infinite_states_survive_the_packing(row: Row) -> None:
    row.norms[0], row.norms[-1, 0] = np.nan, np.inf
    back = unpack(pack(row))
    assert np.isnan(back.norms[0]).all()
    assert np.isinf(back.norms[-1, 0])


def test_a_row_of_the_papers_model_takes_less_than_the_documented_size() -> None:
    """LLaVA-1.5-13B: 41 x 576 tokens of 32000, 40 x 617 norms, at the worst: tokens without any order."""
    rng = np.random.default_rng(0)
    curves = {f"curve{i}": rng.normal(size=41).astype(np.float32).astype(float) for i in range(18)}
    tokens = rng.integers(0, 32000, (41, 576)).astype(np.int32)
    norms = rng.lognormal(size=(40, 617))
    layout = {"length": 617, "visual": [[5, 581]], "text": 41}
    assert len(pack(Row(curves, tokens, norms, layout, 0.1))) < 100_000


def test_no_flipped_bit_and_no_cut_gives_a_wrong_row(row: Row) -> None:
    whole = pack(row)
    rng = random.Random(0)
    spoilt = [
        bytes([*whole[:at], whole[at] ^ (1 << rng.randrange(8)), *whole[at + 1 :]])
        for at in range(0, len(whole), 3)
    ]
    spoilt += [whole[:length] for length in range(0, len(whole), 97)]
    for data in spoilt:
        with pytest.raises(DAMAGED):
            unpack(data)


def test_names_are_of_everything_that_enters_the_model(tiny_llava: Loaded, samples: list[Sample]) -> None:
    one, other = (tiny_llava.inputs([sample.open()]) for sample in samples[:2])
    changed = {**one, "input_ids": one["input_ids"].clone()}
    changed["input_ids"][0, -1] += 1
    both = tiny_llava.inputs([sample.open() for sample in samples[:2]])
    told = [
        names_of("", one),
        names_of("", other),
        names_of("", changed),
        names_of("text", one),
        names_of("", both),
    ]
    assert len({name for group in told for name in group}) == 6
    assert names_of("", one) == names_of("", {key: one[key].clone() for key in reversed(list(one))})


def test_tensors_of_other_types_and_shapes_have_other_names() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    told = [
        names_of("", {"input_ids": ids, "x": x})
        for x in (torch.zeros(2, 2), torch.zeros(4), torch.zeros(4, dtype=torch.bfloat16), torch.tensor(0.0))
    ]
    assert len({name for (name,) in told}) == 4


def test_definitions_are_of_what_a_pass_goes_through(tmp_path: Path) -> None:
    """Wherever the package lies."""
    package = tmp_path / "recipes" / "phasebench"
    for name in ("names.py", "measure/lens.py", "models/trace.py", "models/recipes/llava.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    before = _digest_of(package)
    (package / "models" / "recipes" / "llava.py").write_text("STEPS = 2")
    assert _digest_of(package) == before
    for name in ("names.py", "measure/lens.py", "models/trace.py"):
        (package / name).write_text("SIZE = 2")
        assert _digest_of(package) != before
        (package / name).write_text("")
