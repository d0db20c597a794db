"""The named models: full-size on the meta device, and whole runs on tiny checkpoints in their layout."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from phasebench.models.anatomy.parts import (
    find_layers,
    find_projector,
    image_token_id,
    output_head,
    sequence_model,
)
from phasebench.models.bundled.tiny_named import make_tiny_random_model
from phasebench.models.devices import Placement
from phasebench.models.hub import Hub
from phasebench.models.loading import load
from phasebench.models.named_models import bundled_models, named_models
from phasebench.models.plan import plan, speed
from phasebench.models.sizes import empty_model, parameters
from phasebench.plugin import listing
from phasebench.report.terminal import render
from phasebench.settings import Settings
from tests.support.runs import DRIFT, FINDING, LATENCY, Run

SIZES = {
    "instructblip": 14.19, "instructblip-7b": 7.91, "instructblip-flan-t5-xl": 4.02, "llava": 13.35,
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
    assert parameters(find_projector(model)) > 1e6
    assert all(parameter.is_meta for parameter in model.parameters())


def test_every_named_model_has_its_size_here() -> None:
    assert list(SIZES) == [spec.name for spec in named_models()]


def test_the_largest_model_is_planned_in_two_seconds() -> None:
    start = time.perf_counter()
    estimate = plan(
        empty_model(CONFIGS["llava"]),
        576,
        SPREAD,
    )
    assert time.perf_counter() - start < 2
    assert (estimate.layers, estimate.width, estimate.vocabulary, estimate.visual) == (40, 5120, 32064, 576)
    assert estimate.bytes_by_device["0"] <= 12 * GIB
    assert sum(estimate.bytes_by_device.values()) == 2 * estimate.parameters


def test_operations_are_those_counted_by_hand() -> None:
    estimate = plan(empty_model(CONFIGS["llava-7b"]), 576, ON_CPU)
    block = 4 * 4096**2 + 3 * 4096 * 11008
    language = 2 * 32 * block * 600 + 2 * 600 * 600 * 4096 * 32
    assert estimate.pass_operations == pytest.approx(language + 2 * 0.32e9 * 577, rel=0.02)
    assert estimate.attention_operations == 2 * 600 * 4096**2 * 32
    assert estimate.lens_operations == 2 * 576 * 4096 * 32064 * 33


def test_an_encoder_has_no_lens_to_plan() -> None:
    estimate = plan(empty_model(CONFIGS["instructblip-flan-t5-xl"]), 32, ON_CPU)
    assert estimate.lens_operations == 0
    assert estimate.attention_operations > 0
    vision = 2 * 1.17e9 * 257  # with Q-Former and projection, without the text decoder
    blocks = 2 * 24 * (4 * 2048**2 + 3 * 2048 * 5120) * 56
    assert estimate.pass_operations == pytest.approx(vision + blocks, rel=0.02)


def test_a_model_lies_on_one_device_unless_it_is_spread() -> None:
    estimate = plan(empty_model(CONFIGS["llava-7b"]), 576, ON_CPU)
    assert estimate.bytes_by_device == {"cpu": 4 * estimate.parameters}


def test_a_head_that_shares_its_weight_is_not_counted_as_vision() -> None:
    estimate = plan(empty_model(CONFIGS["blip2"]), 32, ON_CPU)
    vision, model = 2 * 1.09e9 * 257, empty_model(CONFIGS["blip2"])
    blocks = 2 * sum(map(parameters, find_layers(sequence_model(model)))) * 56
    assert estimate.pass_operations == pytest.approx(vision + blocks, rel=0.03)


def test_an_image_that_is_cut_into_tiles_has_no_fixed_number_of_tokens() -> None:
    estimate = plan(empty_model(CONFIGS["llava-next"]), None, ON_CPU)
    assert estimate.visual is None
    assert estimate.positions is None


def test_the_speed_of_a_device_is_measured() -> None:
    assert 1e8 < speed(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_model_in_the_named_models_layout_passes_a_whole_run(
    run: Run, pytester: pytest.Pytester, cache: Path, name: str
) -> None:
    argument = f"{name}={make_tiny_random_model(f'tiny-random-{name}', CONFIGS[name], cache)}"
    assert run("--snapshot-update", "--results", "results.json", model=argument).ret == 0
    (results,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    encoder = name == "instructblip-flan-t5-xl"
    unmeasured = {"lens": "no readout of an encoder's states is defined"} if encoder else {}
    assert results["selftest"]["attention_rows"] == 4
    assert results["selftest"]["unmeasured"] == results["provenance"].get("unmeasured", {}) == unmeasured
    visual = {spec.name: spec.visual for spec in named_models()}[name]
    tokens = sum(end - start for start, end in results["layout"]["visual"])
    assert tokens == visual if visual is not None else tokens > 576
    verdict = results["findings"]["lens_recall_peak"]
    assert ("not measured; no readout" in verdict["detail"]) == encoder


def test_the_models_are_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(listing.WIDE))
    result = run("--list-models")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "smol-llava *photos, scene-pairs, scenes*",
            "instructblip *vicuna-13b@cc1362c2 * 14.19 B * 40 *32 *unknown*",
            "limber *",
        ]
    )
    assert "four_phases" not in result.stdout.str()


@pytest.mark.parametrize(("width", "columns"), [(80, listing.NARROW), (listing.WIDE, listing.COLUMNS)])
def test_names_are_complete_in_a_narrow_terminal(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, width: int, columns: tuple[str, ...]
) -> None:
    specs = {spec.name: spec for spec in named_models()}
    monkeypatch.setattr("phasebench.plugin.named.models", lambda _: specs)
    monkeypatch.setattr(listing, "run_of", lambda _: SimpleNamespace(settings=Settings()))
    monkeypatch.setattr(listing, "_verdicts", lambda *_: "photos, scene-pairs, scenes")
    printed = render(listing._models_table(pytestconfig, width), width, colour=False)
    assert tuple(printed.splitlines()[0].split()) == columns
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


def test_a_plan_of_a_model_that_cannot_be_built_is_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "no such"}))
    result = run("--plan", model=str(folder))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no image-text-to-text model can be built from it*"])


def test_a_tiny_random_model_is_known_by_name(run: Run) -> None:
    result = run("-k", "drift", "--snapshot-update", model="tiny-random-instructblip")
    result.assert_outcomes(passed=DRIFT, deselected=FINDING + LATENCY)


def test_parameters_are_those_of_the_published_weights() -> None:
    published = {"instructblip-7b": 7_913_726_720, "instructblip-flan-t5-xl": 4_022_969_088}
    assert {name: parameters(empty_model(CONFIGS[name])) for name in published} == published


def test_every_repository_is_pinned_to_a_commit() -> None:
    hubs = [spec.source for spec in named_models() if isinstance(spec.source, Hub)]
    assert len(hubs) == 7
    assert all(hub.revision and re.fullmatch("[0-9a-f]{40}", hub.revision) for hub in hubs)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_laid_out_as_published(cache: Path, name: str) -> None:
    """transformers would save one file of weights, and put the image processor into processor_config.json."""
    folder = make_tiny_random_model(f"tiny-random-{name}", CONFIGS[name], cache)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    processor = json.loads((folder / "processor_config.json").read_text())
    assert "image_processor" not in processor
    assert "image_processor_type" in json.loads((folder / "preprocessor_config.json").read_text())
    assert (folder / "qformer_tokenizer" / "tokenizer.json").is_file() == name.startswith("instructblip")
    assert ("Video" in processor["processor_class"]) == (name == "instructblip-7b")


def test_a_processor_of_the_models_type_replaces_one_that_does_not_fit(cache: Path) -> None:
    spec = next(spec for spec in bundled_models() if spec.name == "tiny-random-instructblip-7b")
    loaded = load(spec, cache, Settings(device="cpu"))
    assert type(loaded.processor).__name__ == "InstructBlipProcessor"
    assert loaded.notes == (
        "the processor is InstructBlipProcessor, that of the model's type; InstructBlipVideoProcessor, which "
        "the files name, does not fit",
    )
