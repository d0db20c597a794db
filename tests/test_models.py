"""Models: how an argument becomes one, and how it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from phasebench.cache import made_once
from phasebench.errors import InputError
from phasebench.models.loading import Loaded, digest, load, pick_device, pick_dtype
from phasebench.models.registry import DEFAULT_PROMPT, ModelSpec, bundled_models, resolve_models
from phasebench.models.tiny import tiny


def known() -> dict[str, ModelSpec]:
    return {spec.name: spec for spec in bundled_models()}


@pytest.fixture
def folder(tiny_llava: Loaded, cache: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may break."""
    return Path(shutil.copytree(tiny("tiny-llava", cache), tmp_path / "mine"))


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match="--model smol-lava: unknown model; known: smol-llava, smol-instructblip"
    ):
        resolve_models(["smol-lava"], known())


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match="--model ckpt/nope: no such folder"):
        resolve_models(["ckpt/nope"], known())


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        resolve_models([str(tmp_path)], known())


def test_a_folder_is_a_model_named_after_it(folder: Path) -> None:
    (spec,) = resolve_models([str(folder)], known())
    assert (spec.name, spec.source) == ("mine", folder)


def test_a_folder_under_a_known_name_takes_its_prompt(folder: Path) -> None:
    (spec,) = resolve_models([f"tiny-llava={folder}"], known())
    assert spec.name == "tiny-llava"
    assert spec.source == folder
    assert spec.prompt == known()["tiny-llava"].prompt


def test_doubled_models_count_once() -> None:
    assert [spec.name for spec in resolve_models(["tiny-llava", "tiny-llava"], known())] == ["tiny-llava"]


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="two different models called 'tiny-llava'"):
        resolve_models(["tiny-llava", f"tiny-llava={folder}"], known())


def test_a_name_that_no_folder_can_have_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot name a baselines' folder"):
        resolve_models([f"a b={folder}"], known())


def test_loading_gives_model_processor_and_identity(folder: Path) -> None:
    loaded = load(ModelSpec("mine", folder, "<s> <image> user :"), folder, device="cpu", dtype="bfloat16")
    assert loaded.dtype is torch.bfloat16
    assert loaded.device.type == "cpu"
    assert not loaded.model.training
    assert loaded.checkpoint == digest(folder)


def test_the_identity_follows_weights_and_configuration(folder: Path) -> None:
    before = digest(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "x": 1}))
    assert digest(folder) != before


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \*\.safetensors in .*pickled weights are not read"):
        load(ModelSpec("mine", folder), folder)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_a_missing_file_is_an_error_of_ours(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match="--model mine: cannot load"):
        load(ModelSpec("mine", folder), folder)


def spoil(folder: Path, change: Callable[[dict[str, torch.Tensor], str], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors, next(key for key in tensors if key.endswith("projector.linear_2.weight")))
    save_file(tensors, path, metadata={"format": "pt"})


def test_missing_weights_are_named_not_invented(folder: Path) -> None:
    spoil(folder, lambda tensors, key: tensors.__delitem__(key))
    with pytest.raises(InputError, match=r"lacks weights .*projector\.linear_2\.weight"):
        load(ModelSpec("mine", folder), folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    spoil(folder, lambda tensors, key: tensors.update({key: torch.zeros(3, 3)}))
    with pytest.raises(InputError, match="--model mine: "):
        load(ModelSpec("mine", folder), folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="--model mine: cannot load"):
        load(ModelSpec("mine", folder), folder)


def test_a_folder_called_like_a_known_model_is_refused(folder: Path) -> None:
    taken = folder.rename(folder.parent / "tiny-llava")
    with pytest.raises(InputError, match="to compare with its baselines say --model tiny-llava="):
        resolve_models([str(taken)], known())


def test_a_prompt_given_wins(folder: Path) -> None:
    spec = ModelSpec("mine", folder, "of the family")
    assert load(spec, folder, prompt="given").prompt == "given"
    assert load(spec, folder).prompt == "of the family"
    assert load(ModelSpec("mine", folder), folder).prompt == DEFAULT_PROMPT


def test_devices_and_precisions() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("float16", torch.device("cpu")) is torch.float16
    with pytest.raises(InputError, match="--device nonsense"):
        pick_device("nonsense")


def test_tiny_models_are_the_same_every_time(tmp_path: Path, cache: Path) -> None:
    for name in ("tiny-llava", "tiny-instructblip"):
        assert digest(tiny(name, tmp_path)) == digest(tiny(name, cache))


def test_a_folder_is_made_once_and_whole(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "a").write_text("x")

    for _ in range(2):
        assert (made_once(tmp_path / "made", make) / "a").read_text() == "x"
    assert len(calls) == 1


def test_a_failed_making_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "made", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_makers_at_once_one_wins(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "mine").touch()
        if not (tmp_path / "made").exists():
            (tmp_path / "made").mkdir()
            (tmp_path / "made" / "theirs").touch()

    assert [path.name for path in made_once(tmp_path / "made", make).iterdir()] == ["theirs"]
