"""Drift: which differences are allowed, and how drift is described."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.judge.drift import difference as drift
from phasebench.judge.drift.baseline_folders import Folders
from phasebench.judge.drift.decision import Action, decide
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.record import Record, record
from phasebench.judge.drift.reference import Reference
from phasebench.judge.drift.tolerance import Spread, Tolerances
from phasebench.report.conversion import drift_entry
from phasebench.report.entries import DriftEntry
from phasebench.settings import BaselineMode
from tests.support.synthetic import FOUR, TOLERANCES, curves, recorded

NO_FOLDERS = Folders(Path("own"), Path("packaged"))


def agree(before: Record, after: Record, effect: float | None = None) -> bool:
    reference = Reference(NO_FOLDERS, TOLERANCES, None, effect)
    return decide(before, after, BaselineMode(), reference).action is Action.ACCEPT


def compare(before: Record, after: Record, effect: float | None = None) -> Difference:
    return drift.compare(before, after, TOLERANCES, effect)


def entry(difference: Difference) -> DriftEntry:
    return drift_entry(difference.curve, difference, None)


def shifted(before: Record, layer: int, shift: float) -> Record:
    """The record with the same shift in every image."""
    after = copy.deepcopy(before)
    after["layers"][layer]["mean"] += shift
    for row in after["images"].values():
        row[layer] += shift
    return after


def with_other_images(before: Record) -> Record:
    """A record with the same numbers under the keys of other images."""
    images = {f"other {key}": row for key, row in before["images"].items()}
    return {**before, "images": images, "provenance": {**before["provenance"], "data": "others"}}


def first_images(before: Record, images: int) -> Record:
    """The record of the first images only."""
    rows = dict(list(before["images"].items())[:images])
    means = np.mean(list(rows.values()), axis=0)
    layers = [
        {**layer, "mean": mean, "n": images} for layer, mean in zip(before["layers"], means, strict=True)
    ]
    return {
        **before,
        "images": rows,
        "layers": layers,
        "provenance": {**before["provenance"], "data": "part"},
    }


@pytest.mark.parametrize("name", CURVES)
def test_a_record_agrees_with_itself(name: str) -> None:
    before = record(curves({"inter": FOUR}, noise=0.05), name)
    assert agree(before, before)
    assert compare(before, before).drifted == []


def test_noise_within_the_tolerance_is_no_drift() -> None:
    assert agree(recorded(), shifted(recorded(), 5, 5e-6))


def test_a_difference_past_the_tolerance_is_drift_with_its_layer() -> None:
    difference = compare(recorded(), shifted(recorded(), 5, 2e-3))
    assert difference.drifted == [5]
    assert difference.worst == 5
    assert difference.describe()[0] == "inter drifted at 1 of 41 layers; worst at layer 5"


def test_the_worst_layers_come_first_in_few_lines() -> None:
    after = shifted(shifted(shifted(recorded(), 3, 0.1), 30, -0.3), 17, 0.2)
    lines = compare(recorded(), after).describe()
    assert [line[:9] for line in lines[1:4]] == ["layer  30", "layer  17", "layer   3"]
    assert len(lines) == 4


def test_a_layer_is_described_by_the_number_that_ranks_it() -> None:
    """Its mean, or the single images if they differ by more than the mean."""
    before, after = recorded(), shifted(recorded(), 7, 0.02)
    for number, row in enumerate(after["images"].values()):
        row[5] += 0.1 * (-1) ** number + 0.002
    difference = compare(before, after)
    assert difference.drifted == [5, 7]
    worst, second = difference.describe()[1:]
    assert worst.endswith(f"single images differ by {difference.excess[5]:.2g} times what noise may do")
    assert second.endswith(f"(+0.02; allowed {difference.allowed[7]:.2g}, {difference.excess[7]:.2g} times)")


def test_total_is_compared_relative_to_its_size() -> None:
    before = record(curves({"total": 1e4 * (1 + FOUR)}), "total")
    assert agree(before, shifted(before, 9, 0.05))
    assert not agree(before, shifted(before, 9, 5))


def test_a_value_where_there_was_none_is_drift() -> None:
    before = record(curves({"inter": FOUR}), "total")
    after = copy.deepcopy(before)
    for row in after["images"].values():
        row[0] = 1.0
    assert compare(before, after).drifted == [0]


def test_one_image_that_lost_its_value_is_drift() -> None:
    after = recorded()
    next(iter(after["images"].values()))[7] = None
    difference = compare(recorded(), after)
    assert difference.drifted == [7]
    assert difference.describe()[1].endswith("images that had a value have none, or the other way round")


def test_another_number_of_layers_is_described_in_words() -> None:
    after = recorded()
    after["layers"] = after["layers"][:-1]
    assert not agree(recorded(), after)
    assert compare(recorded(), after).describe() == ["inter: recorded with 40 layers, measured with 39"]
    assert entry(compare(recorded(), after)).excess is None


def test_other_images_are_compared_within_sampling_error() -> None:
    before, after = recorded(seed=1), recorded(seed=2)
    assert not agree(before, after)
    after = with_other_images(after)
    assert agree(before, after)
    assert not agree(before, shifted(after, 12, 0.1))
    lines = compare(before, shifted(after, 12, 0.1)).describe()
    assert "compared with other images or captions, within the sampling error of both" in lines


def test_a_part_of_the_images_is_compared_each_with_itself() -> None:
    """As fifty of four hundred: without sampling error a small shift is noticed."""
    whole = recorded(images=60)
    part = first_images(whole, 10)
    assert agree(whole, part)
    equal_entry = entry(compare(whole, part))
    assert (equal_entry.shared, equal_entry.images, compare(whole, part).describe()) == (10, 60, [])
    difference = compare(whole, shifted(part, 12, 1e-3))
    assert difference.drifted == [12]
    assert "compared on the 10 images that both have" in difference.describe()


def test_images_that_changed_places_are_drift_though_their_mean_is_the_same() -> None:
    """As in a batch whose rows are mixed up, which no mean shows."""
    before, after = recorded(), recorded()
    after["images"] = dict(zip(before["images"], reversed(list(before["images"].values())), strict=True))
    difference = compare(before, after)
    assert len(difference.drifted) == 41
    assert "single images differ by" in difference.describe()[1]


def test_the_lift_of_other_images_is_not_compared_image_by_image() -> None:
    """Its other captions are drawn from the measured images."""
    before, after = recorded("lift"), recorded("lift")
    assert compare(before, after).shared == 60
    part = curves({"lift": FOUR}, noise=0.05)
    part.provenance["data"] = "another order"  # type: ignore[index]
    assert compare(before, record(part, "lift")).shared == 0


def test_against_another_model_small_differences_are_allowed() -> None:
    before = recorded()
    small, large = shifted(before, 5, 0.02), shifted(before, 5, 0.04)
    assert not agree(before, small)
    assert agree(before, small, effect=0.5)
    assert not agree(before, large, effect=0.5)
    assert agree(before, large, effect=1.0)


def test_against_another_model_the_effect_and_its_interval_are_described() -> None:
    rng = np.random.default_rng(0)
    before, after = recorded(), recorded()
    for row in after["images"].values():
        row[5] += 0.1 + 0.01 * rng.standard_normal()
    difference = compare(before, after, effect=0.5)
    assert difference.drifted == [5]
    assert difference.effect[5] == pytest.approx(2, rel=0.3)
    drift_of_curve = entry(difference)
    assert drift_of_curve.low is not None
    assert drift_of_curve.high is not None
    assert drift_of_curve.low < 0.1 < drift_of_curve.high < 0.12
    assert "sd)" in difference.describe()[1]


def test_against_another_model_an_interval_that_reaches_zero_is_no_drift() -> None:
    """Whatever the effect: with these images the difference may be 0."""
    rng = np.random.default_rng(0)
    before = recorded(images=20)
    alarms = 0
    for _ in range(100):
        after = copy.deepcopy(before)
        for row in after["images"].values():
            row[:] = (np.array(row) + 0.05 * rng.standard_normal(41)).tolist()
        alarms += not agree(before, after, effect=0.0)
    assert alarms <= 2


def test_images_of_an_item_count_once_in_the_interval() -> None:
    """Two views of one scene that move together are one observation."""
    rng = np.random.default_rng(0)
    moves = np.repeat(rng.normal(0, 0.05, 30), 2)
    half_widths = []
    for items in ([str(k) for k in range(60)], [str(k // 2) for k in range(60)]):
        before, after = recorded(items=items), recorded(items=items)
        for row, move in zip(after["images"].values(), moves, strict=True):
            row[5] += move
        half_widths.append(compare(before, after, effect=0.5).half_width[5])
    assert 2**0.5 < half_widths[1] / half_widths[0] < 1.3 * 2**0.5  # fewer degrees of freedom too


def test_with_other_images_the_items_count_and_not_the_images() -> None:
    """Twelve pairs have the degrees of freedom of twelve, whatever they were recorded with."""
    half_widths = []
    for items in ([str(k) for k in range(24)], [str(k // 2) for k in range(24)]):
        before = recorded(images=24, items=items)
        difference = compare(before, with_other_images(before))
        half_widths.append(difference.half_width[5] / before["layers"][5]["se"] / 2**0.5)
        assert difference.spread[5] == pytest.approx(
            np.std([row[5] for row in before["images"].values()], ddof=1)
        )
    assert half_widths[1] > 1.25 * half_widths[0]


@pytest.mark.slow
def test_false_alarms_between_samples_are_rare() -> None:
    alarms = 0
    for seed in range(100):
        before, after = recorded(seed=2 * seed), with_other_images(recorded(seed=2 * seed + 1))
        alarms += not agree(before, after)
    assert alarms <= 2


def test_false_alarms_between_small_samples_are_rare() -> None:
    """Few images have few degrees of freedom: normal quantiles would raise false alarms."""
    alarms = 0
    for seed in range(100):
        before, after = (
            recorded(seed=2 * seed, images=4),
            with_other_images(recorded(seed=2 * seed + 1, images=4)),
        )
        alarms += not agree(before, after)
    assert alarms <= 2


def test_a_single_other_image_can_neither_drift_nor_agree() -> None:
    difference = compare(recorded(seed=1), with_other_images(recorded(seed=2, images=1)))
    assert difference.drifted == []
    assert not difference.decidable
    assert (entry(difference).low, entry(difference).high) == (None, None)
    assert compare(recorded(seed=1), with_other_images(recorded(seed=2, images=3))).decidable


def test_against_another_model_one_common_image_decides_nothing() -> None:
    after = shifted(recorded(), 5, 0.5)
    after["images"] = dict(list(after["images"].items())[:1])
    assert compare(recorded(), after).decidable  # of the same checkpoint only noise may differ
    assert compare(recorded(), after, effect=0.1).shared == 0


def test_against_another_model_means_are_of_the_same_images() -> None:
    """Images without a value are left out on both sides; a layer without any value is drift."""
    after = recorded()
    for row in list(after["images"].values())[:20]:
        row[7] = None
    difference = compare(recorded(), after, effect=0.1)
    assert difference.recorded[7] == difference.measured[7]
    for row in after["images"].values():
        row[9] = None
    assert compare(recorded(), after, effect=0.1).drifted == [9]


def test_a_curve_that_is_not_measured_is_not_the_worst() -> None:
    before = record(curves({"inter": FOUR}), "total")
    assert entry(compare(before, before)).excess == 0.0


def test_other_differences_are_named() -> None:
    after = shifted(recorded(), 5, 0.1)
    after["provenance"] = {**after["provenance"], "dtype": "bfloat16", "checkpoint": "b"}
    lines = "\n".join(compare(recorded(), after).describe())
    assert "dtype differs: float32 recorded, bfloat16 now" in lines
    assert "checkpoint differs: None recorded, b now" in lines


def test_another_processing_is_named_if_both_records_have_it() -> None:
    before, after = recorded(), shifted(recorded(), 5, 0.1)
    after["provenance"] = {**after["provenance"], "processing": "b"}
    line = "processing differs: the same picture and prompt give other pixels or tokens"
    assert line not in compare(before, after).describe()
    before["provenance"] = {**before["provenance"], "processing": "a"}
    assert line in compare(before, after).describe()


def test_another_layout_is_described_in_words() -> None:
    before, after = recorded(), shifted(recorded(), 5, 0.1)
    before["provenance"] = {
        **before["provenance"],
        "layout": {"length": 620, "visual": [[5, 581]], "text": 44},
    }
    after["provenance"] = {**after["provenance"], "layout": {"length": 619, "visual": [[0, 575]], "text": 44}}
    changes = "image tokens 576 -> 575, first at position 5 -> 0, prompt length 620 -> 619"
    assert f"layout differs: {changes}" in compare(before, after).describe()


def test_another_dtype_has_its_own_tolerance() -> None:
    after = shifted(recorded(), 5, 3e-3)
    assert not agree(recorded(), after)
    after["provenance"] = {**after["provenance"], "dtype": "bfloat16"}
    assert agree(recorded(), after)


def test_a_dtype_without_a_tolerance_is_refused_with_a_remedy() -> None:
    after = recorded()
    after["provenance"] = {**after["provenance"], "dtype": "float8"}
    with pytest.raises(
        InputError, match=r"no tolerance of inter for float32/float8 in .*calibrate --dtype float8"
    ):
        compare(recorded(), after)


def test_two_precisions_that_no_calibration_compares_are_refused_with_a_remedy() -> None:
    before, after = recorded(), recorded()
    before["provenance"] = {**before["provenance"], "dtype": "bfloat16"}
    after["provenance"] = {**after["provenance"], "dtype": "float16"}
    with pytest.raises(InputError, match="measure with --dtype bfloat16, as recorded"):
        compare(before, after)


def test_a_curve_without_a_tolerance_names_the_file() -> None:
    data = TOLERANCES.as_dict()
    del data["float32"]["inter"]
    tolerances = Tolerances(
        {
            dtypes: {name: Spread.from_dict(spread) for name, spread in by_curve.items()}
            for dtypes, by_curve in data.items()
        }
    )
    with pytest.raises(InputError, match=r"of inter for float32 in tolerances\.json; .*calibrate"):
        drift.compare(recorded(), recorded(), tolerances)


def test_a_curve_that_neither_record_has_needs_no_tolerance() -> None:
    """A model without a lens has no noise of recall; a model that gains a lens is an error."""
    curves_without_lens = curves({"recall": np.full(41, np.nan)})
    tolerances = Tolerances({"float32": {"inter": Spread()}})
    before = record(curves_without_lens, "recall")
    assert drift.compare(before, copy.deepcopy(before), tolerances).drifted == []
    with pytest.raises(InputError, match="no tolerance of recall for float32"):
        drift.compare(before, record(curves({"recall": FOUR}), "recall"), tolerances)


def test_tolerances_in_the_project_replace_the_packaged_ones(tmp_path: Path) -> None:
    folders = Folders(tmp_path, Path("baselines"))
    packaged = Reference.read(folders).tolerances
    wider = TOLERANCES.as_dict()
    wider["float32"]["inter"]["mean"] = wider["float32"]["inter"]["rms"] = 0.01
    (tmp_path / "tolerances.json").write_text(json.dumps({"seen": wider}))
    after = shifted(recorded(), 5, 0.01)
    own_tolerances = Reference.read(folders).tolerances
    assert drift.compare(recorded(), after, packaged).drifted == [5]
    assert drift.compare(recorded(), after, own_tolerances).drifted == []


@pytest.mark.parametrize("text", ["", "{}", '{"seen": []}', '{"seen": {"float32": {"inter": {"a": 1}}}}'])
def test_broken_tolerances_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tolerances.json").write_text(text)
    with pytest.raises(InputError, match=r"tolerances .*tolerances\.json cannot be read .*calibrate writes"):
        Tolerances.read(tmp_path / "tolerances.json")


def test_a_verdict_agrees_by_its_outcome() -> None:
    before = {"finding": "x", "verdict": "holds", "value": 1.0, "detail": ""}
    assert agree(before, {**before, "value": 2.0})
    assert not agree(before, {**before, "verdict": "undecided"})
    assert not agree(before, recorded())


def with_contents(
    contents: str, noise: float, seed: int = 0, images: int = 24, name: str = "inter"
) -> Record:
    """The record of images whose content has this digest, and whose values differ from FOUR by noise."""
    measured = curves({"inter": FOUR, "recall": FOUR}, noise=noise, seed=seed, images=images)
    digests = {image: f"{contents}{image}-captions{image}" for image in measured.items}
    return record(dataclasses.replace(measured, contents=digests), name)


def test_images_of_the_same_ids_with_other_pixels_are_compared_id_by_id() -> None:
    before = with_contents("old", 0.05)
    after = with_contents("new", 0.05)
    same_values = compare(before, after)
    assert same_values.drifted == []
    assert same_values.replaced == same_values.shared == 24
    assert same_values.notes[0] == "24 of 24 pictures have other pixels than recorded"
    changed = compare(before, shifted(after, 5, 0.01))  # a fifth of the spread: two samples would not differ
    assert changed.drifted == [5]
    other_ids = {f"x{key}": row for key, row in shifted(after, 5, 0.01)["images"].items()}
    assert compare(before, {**shifted(after, 5, 0.01), "images": other_ids}).drifted == []


def test_other_captions_of_the_same_pictures_are_named() -> None:
    before = with_contents("same", 0.05, name="recall")
    after = copy.deepcopy(before)
    after["images"] = {key.replace("captions", "words"): row for key, row in before["images"].items()}
    assert compare(before, after).notes[0] == "24 of 24 pictures have other captions than recorded"


def test_a_few_replaced_pictures_are_left_out() -> None:
    before, after = with_contents("old", 0.05), with_contents("old", 0.05)
    first, *others = after["images"]
    after["images"] = {"0 new-captions": after["images"][first]} | {
        key: after["images"][key] for key in others
    }
    difference = compare(before, after)
    assert (difference.shared, difference.replaced) == (23, 0)


def test_a_change_of_pixels_that_averages_out_is_no_drift() -> None:
    before, after = with_contents("old", 0.05), with_contents("new", 0.05, seed=1)
    assert compare(before, after).drifted == []
