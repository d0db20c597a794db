"""What is not a whole checkpoint is named in one line, with the command that mends it, before loading."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from phasebench.errors import InputError
from phasebench.models import checks
from phasebench.models.checks import check_folder
from phasebench.settings import Settings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 1276920\n"
WEIGHTS = "model.safetensors"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder that the checks accept; its weights are two numbers."""
    folder = tmp_path / "whole"
    folder.mkdir()
    for name in ("config.json", "processor_config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    save_file({"a.weight": np.zeros(2), "b.weight": np.ones(2)}, folder / WEIGHTS)
    check_folder(folder, Settings())
    return folder


def message(folder: Path, *, allow_pickle: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        check_folder(folder, Settings(allow_pickle=allow_pickle))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, "a Git LFS pointer; fetch the file: git -C {folder} lfs pull"),
        (
            "/annex/objects/SHA256E-s1--ab\n",
            "a git-annex pointer; fetch the file: git -C {folder} annex get .",
        ),
        ("<!DOCTYPE html><html>Log in", "a web page; fetch the file itself: hf download"),
        ("<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
        ("", "empty; copy it again"),
    ],
)
@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json", "config.json", "tokenizer.model"])
def test_a_file_that_stands_for_another_is_named(whole: Path, file: str, content: str, expected: str) -> None:
    (whole / file).write_text(content)
    assert message(whole).startswith(f"{whole / file} is {expected.format(folder=whole)}")


def test_an_error_message_instead_of_json_is_named(whole: Path) -> None:
    (whole / "tokenizer.json").write_text("Entry not found")
    assert "tokenizer.json is not JSON (it begins with 'Entry not found')" in message(whole)


def test_a_link_whose_file_is_missing_is_named(whole: Path) -> None:
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer.json").symlink_to("../../blobs/ab12")
    assert "tokenizer.json is a link to ../../blobs/ab12, which is missing; copy the files" in message(whole)


def test_a_pointer_to_pickled_weights_is_named_without_allowing_pickle(whole: Path) -> None:
    (whole / WEIGHTS).unlink()
    (whole / "pytorch_model.bin").write_text(POINTER)
    assert "pytorch_model.bin is a Git LFS pointer" in message(whole)


def shards(folder: Path, *numbers: int, name: str = "model", count: int = 2) -> None:
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for number, (key, value) in zip(numbers, weights.items(), strict=False):
        save_file({key: value}, folder / f"{name}-{number:05}-of-{count:05}.safetensors")


def test_shards_without_an_index_come_with_the_command_that_writes_it(whole: Path) -> None:
    shards(whole, 1, 2)
    text = message(whole)
    assert "model.safetensors.index.json, which names the shard of each weight, is missing" in text
    run_command(text)
    check_folder(whole, Settings())
    index = json.loads((whole / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == ["a.weight", "b.weight"]


def run_command(text: str) -> None:
    """Run the Python command at a message's end."""
    program = shlex.split(text[text.index("python -c") :])
    subprocess.run([sys.executable, *program[1:]], check=True)


def test_shards_that_are_missing_are_numbered(whole: Path) -> None:
    shards(whole, 1, 3, count=4)
    assert "lacks shards 2, 4 of 4, and model.safetensors.index.json; hf download" in message(whole)


def folder_of(*files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True, parents=True)
            (folder / file).write_bytes(b"x")

    return write


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("optimizer.pt", "training_args.bin"), "only a trainer's state (optimizer.pt); save the weights"),
        (("random_states_0.pkl", "optimizer.bin"), "only a trainer's state (optimizer.bin)"),
        (("optimizer.pt", "checkpoint-5/model.safetensors"), "its subfolder has; give {folder}/checkpoint-5"),
        (("global_step5/mp_rank_00_model_states.pt",), "{folder}/zero_to_fp32.py {folder} {folder} --safe"),
        (("zero_pp_rank_0_mp_rank_00_optim_states.pt", "optimizer.pt"), "only in DeepSpeed's shards"),
        (("pytorch_model_fsdp_0/__0_0.distcp",), "merge-weights {folder}/pytorch_model_fsdp_0 {folder}"),
        (("__1_0.distcp", ".metadata"), "only in FSDP's shards (__1_0.distcp)"),
        ((".cache/huggingface/download/ab.incomplete",), "was interrupted; continue it: hf download"),
        (("model.fp16.safetensors",), "mv {folder}/model.fp16.safetensors {folder}/model.safetensors"),
        (("weights-q4.gguf",), "only in the format of llama.cpp, GGUF (weights-q4.gguf); give the folder"),
        (("consolidated.00.pth",), "only in the original layout of Llama or Mistral"),
        (("last.ckpt",), "only in a checkpoint of Lightning"),
        (("pytorch_model-00001-of-00001.bin",), "pytorch_model.bin.index.json, which names the shard"),
        (("weights.pt",), "no weights under a name that transformers looks for, only weights.pt"),
        (("pytorch_model.bin",), "no *.safetensors in {folder}; its pickled weights (pytorch_model.bin)"),
    ],
)  # fmt: skip
def test_what_a_folder_has_instead_of_weights_is_named(
    whole: Path, files: tuple[str, ...], expected: str
) -> None:
    folder_of(*files)(whole)
    assert expected.format(folder=whole) in message(whole)


def test_a_trainers_state_is_no_weights_even_if_pickle_is_allowed(whole: Path) -> None:
    folder_of("training_args.bin")(whole)
    assert "only a trainer's state (training_args.bin)" in message(whole, allow_pickle=True)


@pytest.mark.parametrize(
    ("rename", "wrapper"),
    [
        ("_orig_mod.{}", "_orig_mod. of torch.compile"),
        ("module.{}", "module. of DistributedDataParallel or DeepSpeed"),
        ("_fsdp_wrapped_module.{}", "_fsdp_wrapped_module. of FSDP"),
        ("model._orig_mod.{}", "_orig_mod. of torch.compile"),
        ("_forward_module.{}", "_forward_module. of Lightning Fabric"),
    ],
)
def test_a_wrappers_part_of_names_comes_with_the_command_that_removes_it(
    whole: Path, rename: str, wrapper: str
) -> None:
    weights = load_file(whole / WEIGHTS)
    save_file({rename.format(key): value for key, value in weights.items()}, whole / WEIGHTS)
    text = message(whole)
    assert f"names of weights contain {wrapper}" in text
    run_command(text)
    kept = rename.replace(f"{wrapper.split()[0]}", "")
    assert sorted(load_file(whole / WEIGHTS)) == [kept.format(key) for key in weights]


def test_a_wrapper_around_shards_is_removed_by_saving_again(whole: Path) -> None:
    keys = {f"module.{key}": value for key, value in load_file(whole / WEIGHTS).items()}
    save_file(keys, whole / WEIGHTS)
    shards(whole, 1, 2)
    names = {key: f"model-{number:05}-of-00002.safetensors" for number, key in enumerate(keys, start=1)}
    (whole / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "accelerator.unwrap_model(model).save_pretrained" in message(whole)


def test_a_module_of_that_name_within_the_model_is_no_wrapper(whole: Path) -> None:
    save_file({"module.a": np.zeros(2), "b": np.zeros(2), "x.module.y": np.zeros(1)}, whole / WEIGHTS)
    check_folder(whole, Settings())


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model"])
def test_a_tokenizer_in_sentencepieces_format_alone_names_what_to_install(
    whole: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (whole / "tokenizer.json").rename(whole / name)
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert f"has its tokenizer only as {name}, which needs pip install sentencepiece" in message(whole)
    monkeypatch.setattr(checks, "find_spec", lambda _: True)
    check_folder(whole, Settings())
