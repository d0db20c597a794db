"""Official files that cannot be converted: the error names the file and the reason."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import models, pre_tokenizers
from transformers import PretrainedConfig

from phasebench.errors import InputError
from phasebench.models.converters import official_files
from phasebench.models.converters.official_files import Part, Piece, Source
from tests.models.converters.official_models import (
    CHECKPOINT,
    LANGUAGE,
    PROJECTION,
    OfficialModel,
    for_every_model,
    for_model,
    weights,
)
from tests.support import official_files as files


@for_every_model
def test_a_missing_tensor_is_named(official: OfficialModel) -> None:
    official.resave(CHECKPOINT[official.name], lambda state: state.pop(PROJECTION[official.name]))
    with pytest.raises(
        InputError, match=rf"{CHECKPOINT[official.name]} .* lacks {PROJECTION[official.name]}"
    ):
        official.convert()
    assert not official.path("out").exists()


@for_every_model
def test_an_unexpected_tensor_is_named(official: OfficialModel) -> None:
    official.resave(CHECKPOINT[official.name], lambda state: state.update({"extra.weight": torch.ones(1)}))
    with pytest.raises(InputError, match=rf"{CHECKPOINT[official.name]} .* unexpected extra\.weight"):
        official.convert()


@for_every_model
def test_a_wrong_shape_is_named(official: OfficialModel) -> None:
    official.resave(
        CHECKPOINT[official.name], lambda state: state.update({PROJECTION[official.name]: torch.ones(7, 5)})
    )
    with pytest.raises(InputError, match=rf"{PROJECTION[official.name]} has the shape \[7, 5\], not \["):
        official.convert()


@for_every_model
def test_a_language_model_that_lacks_a_tensor_is_named(official: OfficialModel) -> None:
    folder = official.path(LANGUAGE[official.name])
    state = weights(folder)
    state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"{folder} is not the expected file: it lacks lm_head\.weight"):
        official.convert()


@for_model("minigpt4")
def test_many_missing_tensors_are_counted(official: OfficialModel) -> None:
    def drop(state: dict[str, Any]) -> None:
        for name in [name for name in state if name.startswith("blocks.1.")]:
            state.pop(name)

    official.resave("vit.pth", drop)
    with pytest.raises(InputError, match=r"vit\.pth .* lacks blocks\.1\..* and 9 more"):
        official.convert()


@for_model("minigpt4")
def test_a_missing_file_is_named(official: OfficialModel) -> None:
    official.path("qformer.pth").unlink()
    with pytest.raises(InputError, match=r"qformer\.pth: no such file"):
        official.convert()


@for_every_model
def test_a_missing_language_model_is_named(official: OfficialModel) -> None:
    official.path(LANGUAGE[official.name]).rename(official.path("elsewhere"))
    with pytest.raises(InputError, match=r"config\.json is missing; give a language model"):
        official.convert()


@for_every_model
def test_a_language_model_without_weights_is_named(official: OfficialModel) -> None:
    (official.path(LANGUAGE[official.name]) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither \*\.safetensors nor pytorch_model"):
        official.convert()


@for_every_model
def test_weights_twice_in_a_folder_are_refused(official: OfficialModel) -> None:
    folder = official.path(LANGUAGE[official.name])
    (folder / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="in two files; remove one of the copies"):
        official.convert()


@for_every_model
def test_another_architecture_is_refused(official: OfficialModel) -> None:
    other = files.gptj_folder if official.name != "limber" else files.llama_folder
    other(official.path(LANGUAGE[official.name]))
    with pytest.raises(InputError, match=r"contains a '\w+' model; a '\w+' model is needed"):
        official.convert()


@for_every_model
def test_an_unreadable_configuration_is_named(official: OfficialModel) -> None:
    (official.path(LANGUAGE[official.name]) / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        official.convert()


@for_every_model
def test_a_missing_tokenizer_is_named(official: OfficialModel) -> None:
    for path in official.path(LANGUAGE[official.name]).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="contains no tokenizer"):
        official.convert()


@for_every_model
def test_a_broken_tokenizer_is_named(official: OfficialModel) -> None:
    (official.path(LANGUAGE[official.name]) / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        official.convert()


@for_model("minigpt4")
def test_a_tokenizer_that_splits_text_after_an_image_differently_is_refused(
    official: OfficialModel,
) -> None:
    tokenizer = files.tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.backend_tokenizer.model = models.BPE({"<unk>": 0, "▁": 3}, [], unk_token="<unk>")
    tokenizer.save_pretrained(official.path("llama"))
    with pytest.raises(InputError, match="differently after an image than alone; use the original"):
        official.convert()
    assert not official.path("out").exists()


class Trap:
    """An object that unpickling must never create."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was unpickled",))


@for_every_model
def test_arbitrary_objects_are_never_unpickled(official: OfficialModel) -> None:
    path = official.path(CHECKPOINT[official.name])
    path.write_bytes(pickle.dumps({"model": {PROJECTION[official.name]: Trap()}}))
    with pytest.raises(InputError, match="nothing else is unpickled"):
        official.convert()
    torch.save({"model": {}, "config": Trap()}, path)
    with pytest.raises(InputError, match="save only its tensors"):
        official.convert()


@for_model("minigpt4")
def test_a_file_that_is_no_checkpoint_is_named(official: OfficialModel) -> None:
    path = official.path("checkpoint.pth")
    torch.save({"state": {}}, path)
    with pytest.raises(InputError, match="has no entry 'model'"):
        official.convert()
    torch.save({"model": {"epoch": 3}}, path)
    with pytest.raises(InputError, match="contains no table of tensors"):
        official.convert()
    for content in (b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pth was not written by torch: .* Download it"):
            official.convert()


@for_model("minigpt4")
def test_a_full_disk_leaves_no_folder(official: OfficialModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(official_files, "save_file", full)
    with pytest.raises(InputError, match=r"out cannot be written: No space left"):
        official.convert()
    assert not official.path("out").exists()
    monkeypatch.setattr(PretrainedConfig, "save_pretrained", raising(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"out cannot be written: .*No space left"):
        official.convert()


def raising(error: OSError) -> Callable[..., object]:
    def raises(*_: object, **__: object) -> object:
        raise error

    return raises


@for_model("minigpt4")
def test_the_error_names_the_unreadable_file_and_not_the_folder(
    official: OfficialModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(torch, "load", raising(OSError(5, "Input/output error")))
        with pytest.raises(InputError, match=r"\.pth cannot be read: .*Input/output error"):
            official.convert()
    source = Source(Path("llama"), {"x": (1,)}, raising(OSError(5, "Input/output error")))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"llama cannot be read: .*Input/output error"):
        official_files.write_weights(
            official.folder, [Piece("x", (1,), [Part("a", "x", (1,))])], {"a": source}
        )


@for_model("minigpt4")
def test_broken_safetensors_are_named(official: OfficialModel) -> None:
    (official.path("llama") / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        official.convert()


@for_every_model
def test_an_existing_folder_is_left_alone(official: OfficialModel) -> None:
    official.path("out").mkdir()
    with pytest.raises(InputError, match="exists already; name a new folder"):
        official.convert()
    assert list(official.path("out").iterdir()) == []


@for_model("limber")
def test_a_beit_that_lacks_weights_is_named(official: OfficialModel) -> None:
    file = official.path("beit") / "model.safetensors"
    state = dict(load_file(file))
    name = next(name for name in state if name.endswith("cls_token"))
    state.pop(name)
    save_file(state | {"odd.weight": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks embeddings\.cls_token; it contains the unexpected odd\."):
        official.convert()


@for_model("limber")
def test_a_folder_without_a_beit_is_named(official: OfficialModel) -> None:
    (official.path("beit") / "model.safetensors").unlink()
    with pytest.raises(InputError, match="beit cannot be loaded"):
        official.convert()
    files.llama_folder(official.path("beit"))
    with pytest.raises(InputError, match="contains a 'llama' model; a 'beit' model is needed"):
        official.convert()
    (official.path("beit") / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing; give a BEiT"):
        official.convert()


@for_model("limber")
def test_a_beit_without_its_image_processor_is_named(official: OfficialModel) -> None:
    (official.path("beit") / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be read"):
        official.convert()
