"""Records: the content of a baseline's file, and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.record import dump, record
from phasebench.judge.drift.reference import read_record
from tests.support.synthetic import FOUR, curves, recorded

LAYOUT = {"length": 9, "visual": [[2, 6]], "text": 4}


def test_a_record_has_mean_error_and_count_per_layer() -> None:
    curve_record = recorded(images=50)
    assert [layer["layer"] for layer in curve_record["layers"]] == list(range(41))
    assert curve_record["layers"][7]["mean"] == pytest.approx(FOUR[7], abs=0.02)
    assert curve_record["layers"][7]["se"] == pytest.approx(0.05 / 50**0.5, rel=0.3)
    assert curve_record["layers"][7]["n"] == 50


def test_attention_has_no_value_at_layer_0() -> None:
    curve_record = record(curves({"inter": FOUR}), "total")
    assert curve_record["layers"][0] == {"layer": 0, "mean": None, "se": None, "n": 0}


def test_a_file_has_a_line_for_each_layer_and_image_and_reads_back(tmp_path: Path) -> None:
    curve_record = recorded()
    text = dump(curve_record)
    assert sum('"layer": ' in line for line in text.splitlines()) == 41
    assert sum(line.startswith('  "') for line in text.splitlines()) == 60 + len(curve_record["provenance"])
    path = tmp_path / "inter.json"
    path.write_text(text)
    assert read_record(path) == json.loads(text) == curve_record


def test_recorded_numbers_survive_the_file() -> None:
    curve_record = record(curves({"inter": FOUR}, noise=0.1), "inter")
    means = np.array([layer["mean"] for layer in json.loads(dump(curve_record))["layers"]])
    assert np.allclose(means, curves({"inter": FOUR}, noise=0.1).mean("inter"), rtol=1e-8)


def test_a_record_of_several_layouts_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "inter.json"
    for layout in (LAYOUT, [LAYOUT, {**LAYOUT, "length": 10}]):
        path.write_text(changed_record(provenance={"layout": layout}))
        assert read_record(path)["provenance"]["layout"] == layout


def changed_record(**changes: object) -> str:
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
        changed_record(layers=[]),
        changed_record(layers=[{"layer": 0}]),
        changed_record(layers=[{"layer": 0, "mean": "0.1", "se": 0.0, "n": 2}]),
        changed_record(images={}),
        changed_record(images={"0 0": [0.1]}),
        changed_record(images={"0 0": ["0.1"] * 41}),
        changed_record(provenance={"images": "2"}),
        changed_record(provenance={"layout": {"visual": [[2]], "length": 9}}),
        changed_record(provenance={"layout": None}),
        changed_record(provenance={"layout": [LAYOUT, {}]}),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inter.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"baseline .*inter\.json is n"):
        read_record(path)
