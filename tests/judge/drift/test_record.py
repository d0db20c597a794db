"""Records: what a baseline's file holds, and what it may not be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.baselines import read_record
from phasebench.judge.drift.record import dump, record
from tests.support.synthetic import FOUR, curves, recorded

LAYOUT = {"length": 9, "visual": [[2, 6]], "text": 4}


def test_a_record_has_mean_error_and_count_per_layer() -> None:
    one = recorded(images=50)
    assert [layer["layer"] for layer in one["layers"]] == list(range(41))
    assert one["layers"][7]["mean"] == pytest.approx(FOUR[7], abs=0.02)
    assert one["layers"][7]["se"] == pytest.approx(0.05 / 50**0.5, rel=0.3)
    assert one["layers"][7]["n"] == 50


def test_attention_has_no_value_at_layer_0() -> None:
    one = record(curves({"inter": FOUR}), "total")
    assert one["layers"][0] == {"layer": 0, "mean": None, "se": None, "n": 0}


def test_a_file_has_one_layer_and_one_image_a_line_and_reads_back(tmp_path: Path) -> None:
    one = recorded()
    text = dump(one)
    assert sum('"layer": ' in line for line in text.splitlines()) == 41
    assert sum(line.startswith('  "') for line in text.splitlines()) == 60 + len(one["provenance"])
    path = tmp_path / "inter.json"
    path.write_text(text)
    assert read_record(path) == json.loads(text) == one


def test_recorded_numbers_survive_the_file() -> None:
    one = record(curves({"inter": FOUR}, noise=0.1), "inter")
    means = np.array([layer["mean"] for layer in json.loads(dump(one))["layers"]])
    assert np.allclose(means, curves({"inter": FOUR}, noise=0.1).mean("inter"), rtol=1e-8)


def test_a_record_of_several_layouts_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "inter.json"
    for layout in (LAYOUT, [LAYOUT, {**LAYOUT, "length": 10}]):
        path.write_text(broken(provenance={"layout": layout}))
        assert read_record(path)["provenance"]["layout"] == layout


def broken(**changes: object) -> str:
    return dump({**recorded(images=2), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        "<<<<<<< ours",
        '{"verdict": 1}',
        '{"verdict": "holds", "provenance": []}',
        broken(layers=[]),
        broken(layers=[{"layer": 0}]),
        broken(layers=[{"layer": 0, "mean": "0.1", "se": 0.0, "n": 2}]),
        broken(images={}),
        broken(images={"0 0": [0.1]}),
        broken(images={"0 0": ["0.1"] * 41}),
        broken(provenance={"images": "2"}),
        broken(provenance={"layout": {"visual": [[2]], "length": 9}}),
        broken(provenance={"layout": None}),
        broken(provenance={"layout": [LAYOUT, {}]}),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inter.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"baseline .*inter\.json is n"):
        read_record(path)
