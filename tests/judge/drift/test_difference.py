"""Drift: what is let through and what is not, and how it is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.judge.drift import difference as drift
from phasebench.judge.drift.baseline_folders import Folders
from phasebench.judge.drift.baselines import Reference
from phasebench.judge.drift.difference import Difference, as_entry
from phasebench.judge.drift.record import Record, record
from phasebench.judge.drift.tolerance import Spread, Tolerances
from tests.support.synthetic import FOUR, TOLERANCES, curves, recorded

NOWHERE = Folders(Path("own"), Path("packaged"))


def agree(one: Record, other: Record, effect: float | None = None) -> bool:
    return Reference(NOWHERE, TOLERANCES, None, effect).agree(one, other)


def compare(one: Record, other: Record, effect: float | None = None) -> Difference:
    return drift.compare(one, other, TOLERANCES, effect)


def shifted(one: Record, layer: int, by: float) -> Record:
    """Every image moved by so much."""
    other = copy.deepcopy(one)
    other["layers"][layer]["mean"] += by
    for row in other["images"].values():
        row[layer] += by
    return other


def of_others(one: Record) -> Record:
    """The same numbers, said to be of other images."""
    images = {f"other {key}": row for key, row in one["images"].items()}
    return {**one, "images": images, "provenance": {**one["provenance"], "data": "others"}}


def without(one: Record, images: int) -> Record:
    """The first so many images only."""
    kept = dict(list(one["images"].items())[:images])
    means = np.mean(list(kept.values()), axis=0)
    layers = [{**layer, "mean": mean, "n": images} for layer, mean in zip(one["layers"], means, strict=True)]
    return {**one, "images": kept, "layers": layers, "provenance": {**one["provenance"], "data": "part"}}


@pytest.mark.parametrize("name", CURVES)
def test_a_record_agrees_with_itself(name: str) -> None:
    one = record(curves({"inter": FOUR}, noise=0.05), name)
    assert agree(one, one)
    assert compare(one, one).drifted == []


def test_noise_within_the_tolerance_is_no_drift() -> None:
    assert agree(recorded(), shifted(recorded(), 5, 5e-6))


def test_a_difference_past_the_tolerance_is_drift_with_its_layer() -> None:
    difference = compare(recorded(), shifted(recorded(), 5, 2e-3))
    assert difference.drifted == [5]
    assert difference.worst == 5
    assert difference.describe()[0] == "inter drifted at 1 of 41 layers; worst at layer 5"


def test_the_worst_layers_come_first_in_few_lines() -> None:
    other = shifted(shifted(shifted(recorded(), 3, 0.1), 30, -0.3), 17, 0.2)
    told = compare(recorded(), other).describe()
    assert [line[:9] for line in told[1:4]] == ["layer  30", "layer  17", "layer   3"]
    assert len(told) == 4


def test_a_layer_is_told_with_what_it_is_ranked_by() -> None:
    """Its mean, or where its images moved apart by more than that, how far they did."""
    one, other = recorded(), shifted(recorded(), 7, 0.02)
    for number, row in enumerate(other["images"].values()):
        row[5] += 0.1 * (-1) ** number + 0.002
    difference = compare(one, other)
    assert difference.drifted == [5, 7]
    worst, second = difference.describe()[1:]
    assert worst.endswith(f"single images differ by {difference.excess[5]:.2g} times what noise may do")
    assert second.endswith(f"(+0.02; allowed {difference.allowed[7]:.2g}, {difference.excess[7]:.2g} times)")


def test_total_is_compared_relative_to_its_size() -> None:
    one = record(curves({"total": 1e4 * (1 + FOUR)}), "total")
    assert agree(one, shifted(one, 9, 0.05))
    assert not agree(one, shifted(one, 9, 5))


def test_a_value_where_there_was_none_is_drift() -> None:
    one = record(curves({"inter": FOUR}), "total")
    other = copy.deepcopy(one)
    for row in other["images"].values():
        row[0] = 1.0
    assert compare(one, other).drifted == [0]


def test_one_image_that_lost_its_value_is_drift() -> None:
    other = recorded()
    next(iter(other["images"].values()))[7] = None
    found = compare(recorded(), other)
    assert found.drifted == [7]
    assert found.describe()[1].endswith("images that had a value have none, or the other way round")


def test_other_layers_are_said_in_words() -> None:
    other = recorded()
    other["layers"] = other["layers"][:-1]
    assert not agree(recorded(), other)
    assert compare(recorded(), other).describe() == ["inter: recorded with 40 layers, measured with 39"]
    assert as_entry(compare(recorded(), other))["excess"] is None


def test_other_images_are_compared_within_sampling_error() -> None:
    one, other = recorded(seed=1), recorded(seed=2)
    assert not agree(one, other)
    other = of_others(other)
    assert agree(one, other)
    assert not agree(one, shifted(other, 12, 0.1))
    told = compare(one, shifted(other, 12, 0.1)).describe()
    assert "compared with other images or captions, within the sampling error of both" in told


def test_a_part_of_the_images_is_compared_each_with_itself() -> None:
    """Fifty of four hundred: no sampling error is allowed for, and what moved is seen."""
    whole = recorded(images=60)
    part = without(whole, 10)
    assert agree(whole, part)
    alike = as_entry(compare(whole, part))
    assert (alike["shared"], alike["images"], alike["told"]) == (10, 60, [])
    moved = compare(whole, shifted(part, 12, 1e-3))
    assert moved.drifted == [12]
    assert "compared on the 10 images that both have" in moved.describe()


def test_images_that_changed_places_are_drift_though_their_mean_is_the_same() -> None:
    """A batch whose rows are mixed up: no mean knows."""
    one, other = recorded(), recorded()
    other["images"] = dict(zip(one["images"], reversed(list(one["images"].values())), strict=True))
    difference = compare(one, other)
    assert len(difference.drifted) == 41
    assert "single images differ by" in difference.describe()[1]


def test_the_lift_of_other_images_is_not_compared_image_by_image() -> None:
    """Its other captions are drawn among the images measured."""
    one, other = recorded("lift"), recorded("lift")
    assert compare(one, other).shared == 60
    part = curves({"lift": FOUR}, noise=0.05)
    part.provenance["data"] = "another order"  # type: ignore[index]
    assert compare(one, record(part, "lift")).shared == 0


def test_against_another_model_small_differences_are_let_through() -> None:
    one = recorded()
    small, large = shifted(one, 5, 0.02), shifted(one, 5, 0.04)
    assert not agree(one, small)
    assert agree(one, small, effect=0.5)
    assert not agree(one, large, effect=0.5)
    assert agree(one, large, effect=1.0)


def test_against_another_model_the_effect_and_its_interval_are_told() -> None:
    rng = np.random.default_rng(0)
    one, other = recorded(), recorded()
    for row in other["images"].values():
        row[5] += 0.1 + 0.01 * rng.standard_normal()
    difference = compare(one, other, effect=0.5)
    assert difference.drifted == [5]
    assert difference.effect[5] == pytest.approx(2, rel=0.3)
    found = as_entry(difference)
    assert found["low"] < 0.1 < found["high"] < 0.12
    assert "sd)" in difference.describe()[1]


def test_against_another_model_an_interval_that_reaches_zero_is_no_drift() -> None:
    """Whatever the effect: a difference that these images cannot tell from none."""
    rng = np.random.default_rng(0)
    one = recorded(images=20)
    reds = 0
    for _ in range(100):
        other = copy.deepcopy(one)
        for row in other["images"].values():
            row[:] = (np.array(row) + 0.05 * rng.standard_normal(41)).tolist()
        reds += not agree(one, other, effect=0.0)
    assert reds <= 2


def test_images_of_an_item_count_once_in_the_interval() -> None:
    """Two views of one scene that move together are one observation."""
    rng = np.random.default_rng(0)
    moves = np.repeat(rng.normal(0, 0.05, 30), 2)
    halves = []
    for items in ([str(k) for k in range(60)], [str(k // 2) for k in range(60)]):
        one, other = recorded(items=items), recorded(items=items)
        for row, move in zip(other["images"].values(), moves, strict=True):
            row[5] += move
        halves.append(compare(one, other, effect=0.5).half_width[5])
    assert 2**0.5 < halves[1] / halves[0] < 1.3 * 2**0.5  # fewer degrees of freedom too


def test_of_other_images_items_count_and_not_images() -> None:
    """Twelve pairs have the degrees of freedom of twelve, whatever they were recorded with."""
    halves = []
    for items in ([str(k) for k in range(24)], [str(k // 2) for k in range(24)]):
        one = recorded(images=24, items=items)
        found = compare(one, of_others(one))
        halves.append(found.half_width[5] / one["layers"][5]["se"] / 2**0.5)
        assert found.spread[5] == pytest.approx(np.std([row[5] for row in one["images"].values()], ddof=1))
    assert halves[1] > 1.25 * halves[0]


@pytest.mark.slow
def test_false_alarms_between_samples_are_rare() -> None:
    reds = 0
    for seed in range(100):
        one, other = recorded(seed=2 * seed), of_others(recorded(seed=2 * seed + 1))
        reds += not agree(one, other)
    assert reds <= 2


def test_small_samples_are_compared_with_care() -> None:
    """Few images have few degrees of freedom: normal quantiles would cry wolf."""
    reds = 0
    for seed in range(100):
        one, other = recorded(seed=2 * seed, images=4), of_others(recorded(seed=2 * seed + 1, images=4))
        reds += not agree(one, other)
    assert reds <= 2


def test_a_single_other_image_can_neither_drift_nor_agree() -> None:
    found = compare(recorded(seed=1), of_others(recorded(seed=2, images=1)))
    assert found.drifted == []
    assert not found.decidable
    assert (as_entry(found)["low"], as_entry(found)["high"]) == (None, None)
    assert compare(recorded(seed=1), of_others(recorded(seed=2, images=3))).decidable


def test_of_another_model_one_common_image_decides_nothing() -> None:
    other = shifted(recorded(), 5, 0.5)
    other["images"] = dict(list(other["images"].items())[:1])
    assert compare(recorded(), other).decidable  # of the same checkpoint only noise may differ
    assert compare(recorded(), other, effect=0.1).shared == 0


def test_of_another_model_means_are_of_the_same_images() -> None:
    """Images that lost their value are left out on both sides, and layers that all lost are drift."""
    other = recorded()
    for row in list(other["images"].values())[:20]:
        row[7] = None
    found = compare(recorded(), other, effect=0.1)
    assert found.recorded[7] == found.measured[7]
    for row in other["images"].values():
        row[9] = None
    assert compare(recorded(), other, effect=0.1).drifted == [9]


def test_a_curve_that_is_not_measured_is_not_the_worst() -> None:
    one = record(curves({"inter": FOUR}), "total")
    assert as_entry(compare(one, one))["excess"] == 0.0


def test_what_else_differs_is_named() -> None:
    other = shifted(recorded(), 5, 0.1)
    other["provenance"] = {**other["provenance"], "dtype": "bfloat16", "checkpoint": "b"}
    told = "\n".join(compare(recorded(), other).describe())
    assert "dtype differs: float32 recorded, bfloat16 now" in told
    assert "checkpoint differs: None recorded, b now" in told


def test_another_processing_is_told_where_both_know_theirs() -> None:
    one, other = recorded(), shifted(recorded(), 5, 0.1)
    other["provenance"] = {**other["provenance"], "processing": "b"}
    told = "processing differs: the same picture and prompt give other pixels or tokens"
    assert told not in compare(one, other).describe()
    one["provenance"] = {**one["provenance"], "processing": "a"}
    assert told in compare(one, other).describe()


def test_another_layout_is_told_in_words() -> None:
    one, other = recorded(), shifted(recorded(), 5, 0.1)
    one["provenance"] = {**one["provenance"], "layout": {"length": 620, "visual": [[5, 581]], "text": 44}}
    other["provenance"] = {**other["provenance"], "layout": {"length": 619, "visual": [[0, 575]], "text": 44}}
    told = "image tokens 576 -> 575, first at position 5 -> 0, prompt length 620 -> 619"
    assert f"layout differs: {told}" in compare(one, other).describe()


def test_another_dtype_has_its_own_tolerance() -> None:
    other = shifted(recorded(), 5, 3e-3)
    assert not agree(recorded(), other)
    other["provenance"] = {**other["provenance"], "dtype": "bfloat16"}
    assert agree(recorded(), other)


def test_a_dtype_without_a_tolerance_is_refused_with_the_way_out() -> None:
    other = recorded()
    other["provenance"] = {**other["provenance"], "dtype": "float8"}
    with pytest.raises(
        InputError, match=r"no tolerance of inter for float32/float8 in .*calibrate --dtype float8"
    ):
        compare(recorded(), other)


def test_two_precisions_that_no_calibration_compares_are_refused_with_the_way_out() -> None:
    half, other = recorded(), recorded()
    half["provenance"] = {**half["provenance"], "dtype": "bfloat16"}
    other["provenance"] = {**other["provenance"], "dtype": "float16"}
    with pytest.raises(InputError, match="measure with --dtype bfloat16, as recorded"):
        compare(half, other)


def test_a_curve_without_a_tolerance_names_the_file() -> None:
    known = TOLERANCES.as_dict()
    del known["float32"]["inter"]
    few = Tolerances({d: {name: Spread(**of) for name, of in by.items()} for d, by in known.items()})
    with pytest.raises(InputError, match=r"of inter for float32 in tolerances\.json; .*calibrate"):
        drift.compare(recorded(), recorded(), few)


def test_a_curve_that_neither_has_needs_no_tolerance() -> None:
    """A model without a lens leaves calibration nothing to see of it; that one gains it is told."""
    none = curves({"recall": np.full(41, np.nan)})
    few = Tolerances({"float32": {"inter": Spread()}})
    one = record(none, "recall")
    assert drift.compare(one, copy.deepcopy(one), few).drifted == []
    with pytest.raises(InputError, match="no tolerance of recall for float32"):
        drift.compare(one, record(curves({"recall": FOUR}), "recall"), few)


def test_the_project_has_its_own_tolerances_if_it_wrote_some(tmp_path: Path) -> None:
    folders = Folders(tmp_path, Path("baselines"))
    packaged = Reference.of(folders, None, None)
    wider = TOLERANCES.as_dict()
    wider["float32"]["inter"]["mean"] = wider["float32"]["inter"]["rms"] = 0.01
    (tmp_path / "tolerances.json").write_text(json.dumps({"seen": wider}))
    moved = shifted(recorded(), 5, 0.01)
    assert not packaged.agree(recorded(), moved)
    assert Reference.of(folders, None, None).agree(recorded(), moved)


@pytest.mark.parametrize("text", ["", "{}", '{"seen": []}', '{"seen": {"float32": {"inter": {"a": 1}}}}'])
def test_broken_tolerances_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tolerances.json").write_text(text)
    with pytest.raises(InputError, match=r"tolerances .*tolerances\.json cannot be read .*calibrate writes"):
        Tolerances.read(tmp_path / "tolerances.json")


def test_a_verdict_agrees_by_its_outcome() -> None:
    one = {"finding": "x", "verdict": "holds", "value": 1.0}
    assert agree(one, {**one, "value": 2.0})
    assert not agree(one, {**one, "verdict": "undecided"})
    assert not agree(one, recorded())
