"""Drift: what is let through and what is not, and how it is told."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from phasebench.errors import InputError
from phasebench.judge.baselines import agree, dump, read_record
from phasebench.judge.drift import Record, compare, record
from phasebench.names import CURVES
from tests.synthetic import FOUR, curves


def recorded(name: str = "inter", **options: object) -> Record:
    return record(curves({name: FOUR}, **{"noise": 0.05, **options}), name)  # type: ignore[arg-type]


def shifted(one: Record, layer: int, by: float) -> Record:
    other = copy.deepcopy(one)
    other["layers"][layer]["mean"] += by
    return other


@pytest.mark.parametrize("name", CURVES)
def test_a_record_agrees_with_itself(name: str) -> None:
    one = record(curves({"inter": FOUR}, noise=0.05), name)
    assert agree(one, one)
    assert compare(one, one).drifted == []


def test_a_record_has_mean_error_and_count_per_layer() -> None:
    one = recorded(images=50)
    assert [layer["layer"] for layer in one["layers"]] == list(range(41))
    assert one["layers"][7]["mean"] == pytest.approx(FOUR[7], abs=0.02)
    assert one["layers"][7]["se"] == pytest.approx(0.05 / 50**0.5, rel=0.3)
    assert one["layers"][7]["n"] == 50


def test_attention_has_no_value_at_layer_0() -> None:
    one = record(curves({"inter": FOUR}), "total")
    assert one["layers"][0] == {"layer": 0, "mean": None, "se": None, "n": 0}


def test_noise_within_the_tolerance_is_no_drift() -> None:
    assert agree(recorded(), shifted(recorded(), 5, 5e-5))


def test_a_difference_past_the_tolerance_is_drift_with_its_layer() -> None:
    difference = compare(recorded(), shifted(recorded(), 5, 2e-3))
    assert difference.drifted == [5]
    assert difference.worst == 5
    assert difference.told()[0] == "inter drifted at 1 of 41 layers; worst at layer 5"


def test_the_worst_layers_come_first_in_few_lines() -> None:
    other = shifted(shifted(shifted(recorded(), 3, 0.1), 30, -0.3), 17, 0.2)
    told = compare(recorded(), other).told()
    assert [line[:9] for line in told[1:4]] == ["layer  30", "layer  17", "layer   3"]
    assert len(told) <= 7


def test_total_is_compared_relative_to_its_size() -> None:
    one = record(curves({"total": 1e4 * (1 + FOUR)}), "total")
    assert agree(one, shifted(one, 9, 0.5))
    assert not agree(one, shifted(one, 9, 20))


def test_a_value_where_there_was_none_is_drift() -> None:
    one = record(curves({"inter": FOUR}), "total")
    other = copy.deepcopy(one)
    other["layers"][0]["mean"] = 1.0
    assert compare(one, other).drifted == [0]


def test_other_layers_are_said_in_words() -> None:
    other = recorded()
    other["layers"] = other["layers"][:-1]
    assert not agree(recorded(), other)
    assert compare(recorded(), other).told() == ["inter: recorded with 40 layers, measured with 39"]


def test_other_images_are_compared_within_sampling_error() -> None:
    one, other = recorded(seed=1), recorded(seed=2)
    assert not agree(one, other)
    other["provenance"]["data"] = "others"
    assert agree(one, other)
    assert not agree(one, shifted(other, 12, 0.1))


def test_false_alarms_between_samples_are_rare() -> None:
    reds = 0
    for seed in range(100):
        one, other = recorded(seed=2 * seed), recorded(seed=2 * seed + 1)
        other["provenance"]["data"] = "others"
        reds += not agree(one, other)
    assert reds <= 12


def test_small_samples_are_compared_with_care() -> None:
    """Few images have few degrees of freedom: normal quantiles would cry wolf."""
    reds = 0
    for seed in range(100):
        one, other = recorded(seed=2 * seed, images=4), recorded(seed=2 * seed + 1, images=4)
        other["provenance"]["data"] = "others"
        reds += not agree(one, other)
    assert reds <= 12


def test_a_single_other_image_cannot_drift() -> None:
    one, other = recorded(seed=1), recorded(seed=2, images=1)
    other["provenance"]["data"] = "others"
    assert agree(one, other)


def test_what_else_differs_is_named() -> None:
    other = shifted(recorded(), 5, 0.1)
    other["provenance"] = {**other["provenance"], "dtype": "bfloat16", "checkpoint": "b"}
    told = "\n".join(compare(recorded(), other).told())
    assert "dtype differs: float32 recorded, bfloat16 now" in told
    assert "checkpoint differs: None recorded, b now" in told


def test_another_dtype_has_its_own_tolerance() -> None:
    other = shifted(recorded(), 5, 3e-3)
    assert not agree(recorded(), other)
    other["provenance"] = {**other["provenance"], "dtype": "bfloat16"}
    assert agree(recorded(), other)


def test_a_file_has_one_layer_a_line_and_reads_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one = recorded()
    text = dump(one)
    assert sum('"layer": ' in line for line in text.splitlines()) == 41
    path = tmp_path / "inter.json"
    path.write_text(text)
    assert read_record(path) == json.loads(text) == one


def test_recorded_numbers_survive_the_file() -> None:
    one = record(curves({"inter": FOUR}, noise=0.1), "inter")
    means = np.array([layer["mean"] for layer in json.loads(dump(one))["layers"]])
    assert np.allclose(means, curves({"inter": FOUR}, noise=0.1).mean("inter"), rtol=1e-8)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "<<<<<<< ours"])
def test_a_broken_file_is_named(tmp_path, text: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "inter.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"baseline .*inter\.json is n"):
        read_record(path)


def test_a_verdict_agrees_by_its_outcome() -> None:
    one = {"finding": "x", "verdict": "holds", "value": 1.0}
    assert agree(one, {**one, "value": 2.0})
    assert not agree(one, {**one, "verdict": "undecided"})
    assert not agree(one, recorded())
