"""LAVIS' files of BLIP-2 with OPT: converted, they compute what transformers' model computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, Blip2Config

from phasebench.models.converters import blip2
from tests.models.converters.test_instructblip import State, official_name
from tests.support.checkpoints import load_tiny

if TYPE_CHECKING:
    from PIL import Image


@pytest.mark.parametrize("prefix", ["model.", ""])
@torch.no_grad()
def test_it_computes_the_same(cache: Path, tmp_path: Path, pictures: list[Image.Image], prefix: str) -> None:
    """Names of OPT's weights begin with ``model.`` or not, as in releases of transformers."""
    original = load_tiny("tiny-random-blip2", cache)
    for name, parameter in original.model.named_parameters():
        if name.endswith("qkv.bias"):
            parameter[len(parameter) // 3 : 2 * len(parameter) // 3] = 0  # EVA's keys have no bias
    files = written_files(original.model, tmp_path, prefix)
    (source,) = cache.glob("tiny-random-blip2-*")
    for path in source.glob("*token*"):
        shutil.copy(path, files / "opt")
    for name in ("vocab.json", "merges.txt"):
        if (source / name).is_file():
            shutil.copy(source / name, files / "opt")
    config = Blip2Config.from_pretrained(source)
    sizes = {name: getattr(config, name) for name in ("vision_config", "qformer_config", "num_query_tokens")}
    folder = blip2.convert(
        files / "checkpoint.pth", files / "opt", files / "out", files / "vit.pth", sizes=sizes
    )
    converted = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = original.inputs(pictures[:2])
    assert converted.config.image_token_id == original.model.config.image_token_id
    assert torch.equal(converted(**inputs).logits, original.model(**inputs).logits)


def written_files(model: Any, folder: Path, prefix: str) -> Path:
    """The three files, with the weights of transformers' model."""
    language, vision, rest = State(), State(), State()
    for name, value in model.state_dict().items():
        official = official_name(name)
        if official.startswith("language_model:model."):
            language[official.replace("language_model:model.", prefix)] = value.clone()
        elif official.startswith("visual_encoder."):
            vision |= split_bias(official.removeprefix("visual_encoder."), value)
        elif not official.startswith("language_model:"):
            rest[
                official.replace("llm_proj", "opt_proj").replace(
                    "bert.layernorm", "bert.embeddings.LayerNorm"
                )
            ] = value
    torch.save({"model": rest}, folder / "checkpoint.pth")
    torch.save(vision, folder / "vit.pth")
    (folder / "opt").mkdir()
    (folder / "opt" / "config.json").write_text(json.dumps(model.config.text_config.to_dict()))
    save_file(language, folder / "opt" / "model.safetensors")
    return folder


def split_bias(name: str, value: torch.Tensor) -> State:
    """EVA's two biases in place of the one of query, key and value."""
    if not name.endswith("qkv.bias"):
        return {name: value}
    query, _, values = value.chunk(3)
    stem = name.removesuffix("qkv.bias")
    return {f"{stem}q_bias": query.clone(), f"{stem}v_bias": values.clone()}
