"""What an official file may not be, and how it is named."""

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
from phasebench.models.converters import official
from phasebench.models.converters.official import Part, Piece, Source
from tests.models.converters.given import CHECKPOINT, LANGUAGE, PROJECTION, Given, every_model, only, weights
from tests.support import official_files as files


@every_model
def test_a_missing_tensor_is_named(given: Given) -> None:
    given.resave(CHECKPOINT[given.name], lambda state: state.pop(PROJECTION[given.name]))
    with pytest.raises(InputError, match=rf"{CHECKPOINT[given.name]} .* lacks {PROJECTION[given.name]}"):
        given.convert()
    assert not given.path("out").exists()


@every_model
def test_an_unexpected_tensor_is_named(given: Given) -> None:
    given.resave(CHECKPOINT[given.name], lambda state: state.update({"extra.weight": torch.ones(1)}))
    with pytest.raises(InputError, match=rf"{CHECKPOINT[given.name]} .* unexpected extra\.weight"):
        given.convert()


@every_model
def test_a_wrong_shape_is_named(given: Given) -> None:
    given.resave(
        CHECKPOINT[given.name], lambda state: state.update({PROJECTION[given.name]: torch.ones(7, 5)})
    )
    with pytest.raises(InputError, match=rf"{PROJECTION[given.name]} has the shape \[7, 5\], not \["):
        given.convert()


@every_model
def test_a_language_model_that_lacks_a_tensor_is_named(given: Given) -> None:
    folder = given.path(LANGUAGE[given.name])
    state = weights(folder)
    state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"{folder} is not the expected file: it lacks lm_head\.weight"):
        given.convert()


@only("minigpt4")
def test_many_missing_tensors_are_counted(given: Given) -> None:
    def drop(state: dict[str, Any]) -> None:
        for name in [name for name in state if name.startswith("blocks.1.")]:
            state.pop(name)

    given.resave("vit.pth", drop)
    with pytest.raises(InputError, match=r"vit\.pth .* lacks blocks\.1\..* and 9 more"):
        given.convert()


@only("minigpt4")
def test_a_missing_file_is_named(given: Given) -> None:
    given.path("qformer.pth").unlink()
    with pytest.raises(InputError, match=r"qformer\.pth: no such file"):
        given.convert()


@every_model
def test_a_missing_language_model_is_named(given: Given) -> None:
    given.path(LANGUAGE[given.name]).rename(given.path("elsewhere"))
    with pytest.raises(InputError, match=r"config\.json is missing; give a language model"):
        given.convert()


@every_model
def test_a_language_model_without_weights_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither \*\.safetensors nor pytorch_model"):
        given.convert()


@every_model
def test_weights_twice_in_a_folder_are_refused(given: Given) -> None:
    folder = given.path(LANGUAGE[given.name])
    (folder / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="in two files; keep the weights once"):
        given.convert()


@every_model
def test_another_architecture_is_refused(given: Given) -> None:
    other = files.gptj_folder if given.name != "limber" else files.llama_folder
    other(given.path(LANGUAGE[given.name]))
    with pytest.raises(InputError, match=r"holds a '\w+' model; a '\w+' model is needed"):
        given.convert()


@every_model
def test_an_unreadable_configuration_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        given.convert()


@every_model
def test_a_missing_tokenizer_is_named(given: Given) -> None:
    for path in given.path(LANGUAGE[given.name]).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        given.convert()


@every_model
def test_a_broken_tokenizer_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        given.convert()


@only("minigpt4")
def test_a_tokenizer_that_reads_otherwise_behind_an_image_is_refused(given: Given) -> None:
    words = files.tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    words.backend_tokenizer.model = models.BPE({"<unk>": 0, "▁": 3}, [], unk_token="<unk>")
    words.save_pretrained(given.path("llama"))
    with pytest.raises(InputError, match="otherwise behind an image than alone; take the tokenizer"):
        given.convert()
    assert not given.path("out").exists()


class Trap:
    """What unpickling must never run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was unpickled",))


@every_model
def test_arbitrary_objects_are_never_unpickled(given: Given) -> None:
    path = given.path(CHECKPOINT[given.name])
    path.write_bytes(pickle.dumps({"model": {PROJECTION[given.name]: Trap()}}))
    with pytest.raises(InputError, match="nothing else is unpickled"):
        given.convert()
    torch.save({"model": {}, "config": Trap()}, path)
    with pytest.raises(InputError, match="save its tensors alone"):
        given.convert()


@only("minigpt4")
def test_what_is_no_checkpoint_is_named(given: Given) -> None:
    path = given.path("checkpoint.pth")
    torch.save({"state": {}}, path)
    with pytest.raises(InputError, match="has no entry 'model'"):
        given.convert()
    torch.save({"model": {"epoch": 3}}, path)
    with pytest.raises(InputError, match="holds no table of tensors"):
        given.convert()
    for content in (b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pth was not written by torch: .* Fetch it again"):
            given.convert()


@only("minigpt4")
def test_a_full_disk_leaves_nothing_and_is_told(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(official, "save_file", full)
    with pytest.raises(InputError, match=r"out cannot be written: No space left"):
        given.convert()
    assert not given.path("out").exists()
    monkeypatch.setattr(PretrainedConfig, "save_pretrained", raising(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"out cannot be written: .*No space left"):
        given.convert()


def raising(error: OSError) -> Callable[..., object]:
    def raises(*_: object, **__: object) -> object:
        raise error

    return raises


@only("minigpt4")
def test_a_file_that_cannot_be_read_is_blamed_and_not_the_folder(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(torch, "load", raising(OSError(5, "Input/output error")))
        with pytest.raises(InputError, match=r"\.pth cannot be read: .*Input/output error"):
            given.convert()
    source = Source(Path("llama"), {"x": (1,)}, raising(OSError(5, "Input/output error")))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"llama cannot be read: .*Input/output error"):
        official.write_weights(given.folder, [Piece("x", (1,), [Part("a", "x", (1,))])], {"a": source})


@only("minigpt4")
def test_broken_safetensors_are_named(given: Given) -> None:
    (given.path("llama") / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        given.convert()


@every_model
def test_a_folder_that_is_there_is_left_alone(given: Given) -> None:
    given.path("out").mkdir()
    with pytest.raises(InputError, match="is there already; name a new folder"):
        given.convert()
    assert list(given.path("out").iterdir()) == []


@only("limber")
def test_a_beit_that_lacks_weights_is_named(given: Given) -> None:
    file = given.path("beit") / "model.safetensors"
    state = dict(load_file(file))
    name = next(name for name in state if name.endswith("cls_token"))
    state.pop(name)
    save_file(state | {"odd.weight": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks embeddings\.cls_token; it holds the unexpected odd\.weight"):
        given.convert()


@only("limber")
def test_what_is_no_beit_is_named(given: Given) -> None:
    (given.path("beit") / "model.safetensors").unlink()
    with pytest.raises(InputError, match="beit cannot be loaded"):
        given.convert()
    files.llama_folder(given.path("beit"))
    with pytest.raises(InputError, match="holds a 'llama' model; a 'beit' model is needed"):
        given.convert()
    (given.path("beit") / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing; give a BEiT"):
        given.convert()


@only("limber")
def test_a_beit_without_its_image_processor_is_named(given: Given) -> None:
    (given.path("beit") / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be read"):
        given.convert()
