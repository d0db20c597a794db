"""Weights are held against the model before memory is taken, from the files' headers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.models import sizes, weights
from phasebench.models.anatomy.parts import sequence_model
from phasebench.models.checks import check_folder
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings

CPU = Settings(device="cpu")
Tensors = dict[str, Tensor]


def rewrite(folder: Path, change: Callable[[Tensors], Tensors], *, pickled: bool = False) -> None:
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    if pickled:
        path.unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, path, {"format": "pt"})


def edit_config(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if any weight is loaded elsewhere than on the meta device."""
    real = weights._from_pretrained

    def on_meta(*args: Any, **options: Any) -> Any:
        assert options == {"device_map": "meta"}
        return real(*args, **options)

    monkeypatch.setattr(weights, "_from_pretrained", on_meta)


def refused(folder: Path, settings: Settings = CPU) -> str:
    with pytest.raises(InputError) as caught:
        load(ModelSpec("mine", folder), folder, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def to_int8(tensors: Tensors) -> Tensors:
    return {
        key: (100 * value).round().to(torch.int8) if key.endswith("q_proj.weight") else value
        for key, value in tensors.items()
    }


def with_scales(end: str, dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    """Language model's weights in ``dtype``, each with a tensor beside it whose name has another end."""

    def change(tensors: Tensors) -> Tensors:
        names = [key for key in tensors if key.endswith("q_proj.weight")]
        quantized = {key: tensors[key].to(dtype) for key in names}
        scales = {key.removesuffix("weight") + end: torch.ones(1) for key in names}
        return {**tensors, **quantized, **scales}

    return change


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (to_int8, r"q_proj\.weight of type I8"),
        (with_scales("SCB", torch.int8), r"q_proj"),
        (with_scales("weight_scale_inv", torch.float8_e4m3fn), r"q_proj\.weight_scale_inv\)"),
        (with_scales("weight.absmax", torch.float32), r"q_proj\.weight\.absmax"),
        (with_scales("qzeros", torch.float32), r"q_proj\.qzeros"),
    ],
)
def test_quantized_weights_that_nothing_scales_are_refused(
    folder: Path, change: Callable[[Tensors], Tensors], found: str
) -> None:
    rewrite(folder, change)
    text = refused(folder)
    assert "has quantized weights" in text
    assert "config.json has no quantization_config" in text
    assert re.search(found, text)


def test_integers_in_a_pickle_are_refused(folder: Path) -> None:
    rewrite(folder, to_int8, pickled=True)
    assert "q_proj.weight of type int8" in refused(folder, Settings(device="cpu", allow_pickle=True))


def test_integers_that_are_no_weights_are_accepted(folder: Path) -> None:
    """Older checkpoints store the positions of patches, which transformers computes."""
    name = "vision_tower.vision_model.embeddings.position_ids"
    rewrite(folder, lambda tensors: {**tensors, name: torch.arange(5)[None]})
    assert load(ModelSpec("mine", folder), folder, CPU).checkpoint


@pytest.mark.usefixtures("no_memory")
def test_a_model_of_default_sizes_is_refused_before_memory_is_taken(folder: Path) -> None:
    """An empty configuration is one of LLaVA-1.5 7B, which needs 26 GiB."""
    edit_config(folder, lambda config: {"model_type": "llava"})
    text = refused(folder)
    assert "lacks weights or has them in other shapes" in text
    assert "has neither text_config nor vision_config, so the sizes are transformers' defaults" in text


def test_the_configuration_of_llavas_own_program_is_named(folder: Path) -> None:
    edit_config(
        folder, lambda _: {"model_type": "llava", "mm_vision_tower": "openai/clip", "hidden_size": 4096}
    )
    with pytest.raises(InputError, match=r"config\.json is of LLaVA's own program \(mm_vision_tower\)"):
        check_folder(folder, Settings())


@pytest.mark.usefixtures("no_memory")
def test_a_part_that_all_names_begin_with_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: {f"student.{key}": value for key, value in tensors.items()})
    assert "all names begin with student., remove it: python -c" in refused(folder)


@pytest.mark.usefixtures("no_memory")
def test_a_part_of_all_names_in_a_pickle_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: {f"module.{key}": value for key, value in tensors.items()}, pickled=True)
    text = refused(folder, Settings(device="cpu", allow_pickle=True))
    assert "all names begin with module., remove it: save it again: accelerator.unwrap_model" in text


@pytest.mark.usefixtures("no_memory")
def test_a_model_larger_than_main_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"mine needs 0\.0 GiB of main memory; 0\.0 GiB are free") as caught:
        load(ModelSpec("mine", folder), folder, CPU)
    assert caught.value.remedy == "max_memory"


def test_a_containers_limit_counts_without_what_it_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "CONTAINER", tmp_path)
    machine = sizes.available_memory()
    assert machine > 1000
    for name, text in (
        ("max", "1000"),
        ("current", "700"),
        ("stat", "anon 5\nactive_file 100\ninactive_file 50\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text)
    assert sizes.available_memory() == 450
    (tmp_path / "memory.max").write_text("max")
    assert sizes.available_memory() > 1000


def test_weights_that_deepspeed_left_empty_are_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: {key: torch.zeros(0) for key in tensors})
    with pytest.raises(InputError, match=r"without any number, as DeepSpeed's stage 3.*zero_to_fp32\.py"):
        check_folder(folder, Settings())


def test_a_wrapper_without_a_decoder_is_named(tiny_llava: LoadedModel) -> None:
    class Wrapper(nn.Module):
        config = tiny_llava.model.config

    with pytest.raises(InputError, match=r"Wrapper has no get_decoder\(\); of a wrapper, give"):
        sequence_model(Wrapper())
