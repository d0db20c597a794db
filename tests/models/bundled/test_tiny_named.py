"""The named models: full-size on the meta device, and tiny checkpoints in their layout through whole runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from phasebench.models.anatomy.parts import (
    find_layers,
    image_token_id,
    output_head,
    projector_of,
    sequence_model,
)
from phasebench.models.bundled.tiny_named import shrunk
from phasebench.models.devices import Placement
from phasebench.models.named_models import named_models
from phasebench.models.plan import plan, speed
from phasebench.models.sizes import empty_model, parameters
from phasebench.plugin import listing
from phasebench.report.terminal import render
from phasebench.settings import Settings
from tests.conftest import DRIFT, FINDING, LATENCY, Run

SIZES = {
    "instructblip": 14.19, "instructblip-7b": 7.91, "instructblip-flan-t5-xl": 3.96, "llava": 13.35,
    "llava-7b": 7.06, "llava-next": 7.06, "blip2": 3.74, "minigpt4": 14.11, "minigpt-v2": 7.75,
    "limber": 6.36,
}  # fmt: skip
"""Billions of parameters, as published or counted on the official code."""
LAYERS = {
    "instructblip": 40, "instructblip-7b": 32, "instructblip-flan-t5-xl": 24, "llava": 40, "llava-7b": 32,
    "llava-next": 32, "blip2": 32, "minigpt4": 40, "minigpt-v2": 32, "limber": 28,
}  # fmt: skip
GIB = 2**30
SPREAD = Placement(torch.device("cuda:0"), torch.bfloat16, spread=True, memory={0: "12GiB", "cpu": "64GiB"})
ON_CPU = Placement(torch.device("cpu"), torch.float32)
NAMES = [spec.name for spec in named_models() if spec.source is not None]
CONFIGS = {spec.name: spec.config for spec in named_models() if spec.config}


@pytest.mark.parametrize("name", SIZES)
def test_the_full_size_is_discovered_on_the_meta_device(name: str) -> None:
    model = empty_model(CONFIGS[name])
    assert parameters(model) / 1e9 == pytest.approx(SIZES[name], abs=0.006)
    assert len(find_layers(sequence_model(model))) == LAYERS[name]
    assert image_token_id(model) is not None
    assert output_head(model) is not None
    assert parameters(projector_of(model)) > 1e6
    assert all(parameter.is_meta for parameter in model.parameters())


def test_every_named_model_has_its_size_here() -> None:
    assert list(SIZES) == [spec.name for spec in named_models()]


def test_the_largest_is_planned_in_two_seconds() -> None:
    began = time.perf_counter()
    found = plan(
        empty_model(CONFIGS["llava"]),
        576,
        SPREAD,
    )
    assert time.perf_counter() - began < 2
    assert (found.layers, found.width, found.vocabulary, found.visual) == (40, 5120, 32064, 576)
    assert found.placed["0"] <= 12 * GIB
    assert sum(found.placed.values()) == 2 * found.parameters


def test_operations_are_those_counted_by_hand() -> None:
    found = plan(empty_model(CONFIGS["llava-7b"]), 576, ON_CPU)
    block = 4 * 4096**2 + 3 * 4096 * 11008
    language = 2 * 32 * block * 600 + 2 * 600 * 600 * 4096 * 32
    assert found.plain == pytest.approx(language + 2 * 0.32e9 * 577, rel=0.02)
    assert found.rows == 2 * 600 * 4096**2 * 32
    assert found.lens == 2 * 576 * 4096 * 32064 * 33


def test_an_encoder_has_no_lens_to_plan() -> None:
    found = plan(empty_model(CONFIGS["instructblip-flan-t5-xl"]), 32, ON_CPU)
    assert found.lens == 0
    assert found.rows > 0
    eyes = 2 * 1.17e9 * 257  # with Q-Former and projection; the text decoder is no part of them
    blocks = 2 * 24 * (4 * 2048**2 + 3 * 2048 * 5120) * 56
    assert found.plain == pytest.approx(eyes + blocks, rel=0.02)


def test_a_model_lies_on_one_device_unless_it_is_spread() -> None:
    found = plan(empty_model(CONFIGS["llava-7b"]), 576, ON_CPU)
    assert found.placed == {"cpu": 4 * found.parameters}


def test_a_head_that_shares_its_weight_is_no_part_of_the_eyes() -> None:
    found = plan(empty_model(CONFIGS["blip2"]), 32, ON_CPU)
    eyes, model = 2 * 1.09e9 * 257, empty_model(CONFIGS["blip2"])
    blocks = 2 * sum(map(parameters, find_layers(sequence_model(model)))) * 56
    assert found.plain == pytest.approx(eyes + blocks, rel=0.03)


def test_a_picture_that_is_cut_into_tiles_has_no_fixed_number_of_tokens() -> None:
    found = plan(empty_model(CONFIGS["llava-next"]), None, ON_CPU)
    assert found.visual is None
    assert found.positions is None


def test_the_speed_of_a_device_is_measured() -> None:
    assert 1e8 < speed(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_one_in_the_true_layout_runs_whole(
    run: Run, pytester: pytest.Pytester, cache: Path, name: str
) -> None:
    argument = f"{name}={shrunk(f'tiny-random-{name}', CONFIGS[name], cache)}"
    assert run("--snapshot-update", "--results", "results.json", model=argument).ret == 0
    (found,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    encoder = name == "instructblip-flan-t5-xl"
    lacking = {"lens": "no readout of an encoder's states is defined"} if encoder else {}
    assert found["selftest"]["attention_rows"] == 4
    assert found["selftest"]["unmeasured"] == found["provenance"].get("unmeasured", {}) == lacking
    visual = {spec.name: spec.visual for spec in named_models()}[name]
    tokens = sum(end - start for start, end in found["layout"]["visual"])
    assert tokens == visual if visual is not None else tokens > 576
    verdict = found["findings"]["lens_recall_peak"]
    assert ("not measured; no readout" in verdict["detail"]) == encoder


def test_the_models_are_listed(run: Run) -> None:
    result = run("--list-models")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "smol-llava *photos, scene-pairs, scenes*",
            "instructblip *vicuna-13b * 14.19 B * 40 *32 *unknown*",
            "limber *",
        ]
    )
    assert "four_phases" not in result.stdout.str()


@pytest.mark.parametrize(("width", "shown"), [(80, listing.NARROW), (listing.WIDE, listing.COLUMNS)])
def test_names_are_whole_however_narrow_the_terminal_is(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, width: int, shown: tuple[str, ...]
) -> None:
    specs = {spec.name: spec for spec in named_models()}
    monkeypatch.setattr("phasebench.plugin.named.models", lambda _: specs)
    monkeypatch.setattr(listing, "settings_of", lambda _: Settings())
    monkeypatch.setattr(listing, "_verdicts", lambda *_: "photos, scene-pairs, scenes")
    printed = render(listing._listed(pytestconfig, width), width, colour=False)
    assert tuple(printed.splitlines()[0].split()) == shown
    assert all(f"{name} " in printed for name in specs)
    assert ("Salesforce/instructblip-vicuna-13b" in printed) == (width == listing.WIDE)


def test_a_plan_is_printed_before_any_weight_is_read(run: Run) -> None:
    result = run("--plan", "--dtype", "bfloat16", "--images", "7", model="llava-7b")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "model *llava-7b*",
            "parameters *7.06 B: 26.3 GiB in float32, 13.2 GiB in bfloat16*",
            "*576 of about 600*",
            "and with the lens *for 7 images*",
        ]
    )


def test_a_plan_of_what_cannot_be_built(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "no such"}))
    result = run("--plan", model=str(folder))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no image-text-to-text model can be built from it*"])


def test_a_tiny_random_one_is_known_by_name(run: Run) -> None:
    result = run("-k", "drift", "--snapshot-update", model="tiny-random-instructblip")
    result.assert_outcomes(passed=DRIFT, deselected=FINDING + LATENCY)
