"""The tables fit models of the published sizes, without any memory for their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BeitConfig,
    Blip2ForConditionalGeneration,
    GPTJConfig,
    LlamaConfig,
)

from phasebench.models.converters import limber, minigpt4, minigpt_v2, official_files
from tests.models.converters.official_models import MODELS

VICUNA_13B = {
    "vocab_size": 32001, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40,
}  # fmt: skip
BEIT_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "use_mask_token": True, "use_shared_relative_position_bias": True,
}  # fmt: skip


def full_size(name: str) -> tuple[Any, Any, list[official_files.Piece]]:
    """The class, configuration and table of a published model."""
    if name == "minigpt4":
        config = minigpt4.full_config(LlamaConfig(**VICUNA_13B), 32000)
        return Blip2ForConditionalGeneration, config, minigpt4.table(config, 32000)
    if name == "minigpt_v2":
        config = minigpt_v2.full_config(LlamaConfig(vocab_size=32001), 32000)
        return minigpt_v2.MiniGPTv2ForConditionalGeneration, config, minigpt_v2.table(config, 32000)
    config = limber.full_config(BeitConfig(**BEIT_LARGE), GPTJConfig(vocab_size=50401), 50400)
    return limber.LimberForConditionalGeneration, config, limber.table(config, 50400)


def count(shapes: dict[str, official_files.Shape], prefix: str = "") -> int:
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(prefix))


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_every_tensor_of_the_full_model(name: str) -> None:
    model_class, config, table = full_size(name)
    with torch.device("meta"):
        state = model_class(config).state_dict()
    assert {piece.name: piece.shape for piece in table} == {
        key: tuple(value.shape) for key, value in state.items()
    }
    assert len(table) == len(state)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_of_the_published_sizes(name: str) -> None:
    """By hand: a Llama of width D, inner width I and L layers has L (4 D D + 3 D I + 2 D) + D, and 2 V D."""
    shapes = {piece.name: piece.shape for piece in full_size(name)[2]}
    print(f"{name}: {count(shapes) / 1e9:.3f} billion")
    if name == "minigpt4":
        llama = 40 * (4 * 5120**2 + 3 * 5120 * 13824 + 2 * 5120) + 5120 + 2 * 32001 * 5120
        assert count(shapes, "language_model.") == llama == 13_015_864_320 + 2 * 5120
        assert count(shapes, "language_projection.") == 768 * 5120 + 5120
        assert round(count(shapes) / 1e9, 1) == 14.1
    elif name == "minigpt_v2":
        assert count(shapes, "model.language_model.") + count(shapes, "lm_head.") == 6_738_415_616 + 2 * 4096
        assert round(count(shapes, "model.vision_tower.") / 1e9, 2) == 0.99
        assert count(shapes, "model.multi_modal_projector.") == 5632 * 4096 + 4096
    else:
        assert (
            count(shapes, "model.language_model.") + count(shapes, "lm_head.") == 6_050_882_784 + 2 * 4096 + 1
        )
        assert round(count(shapes, "model.vision_tower.") / 1e9, 2) == 0.30
        assert count(shapes, "model.multi_modal_projector.") == 1024 * 4096 + 4096


def official_names(table: list[official_files.Piece], source: str) -> dict[str, official_files.Shape]:
    return {part.name: part.shape for piece in table for part in piece.parts if part.source == source}


def test_the_official_files_of_minigpt4() -> None:
    table = full_size("minigpt4")[2]
    eva, rest = official_names(table, "vit"), official_names(table, "qformer")
    assert len(eva) == 4 + 39 * 13
    assert eva["pos_embed"] == (1, 257, 1408)
    assert eva["patch_embed.proj.weight"] == (1408, 3, 14, 14)
    assert eva["blocks.38.mlp.fc1.weight"] == (6144, 1408)
    assert eva["blocks.0.attn.q_bias"] == eva["blocks.0.attn.v_bias"] == (1408,)
    assert rest["query_tokens"] == (1, 32, 768)
    assert rest["Qformer.bert.encoder.layer.10.crossattention.self.key.weight"] == (768, 1408)
    assert "Qformer.bert.encoder.layer.11.crossattention.self.key.weight" not in rest
    assert rest["ln_vision.weight"] == (1408,)
    assert official_names(table, "checkpoint") == {
        "llama_proj.weight": (5120, 768),
        "llama_proj.bias": (5120,),
    }
    assert official_names(table, "language")["model.embed_tokens.weight"] == (32000, 5120)


def test_the_official_files_of_minigpt_v2() -> None:
    table = full_size("minigpt_v2")[2]
    assert official_names(table, "vit") == official_names(full_size("minigpt4")[2], "vit")
    checkpoint = official_names(table, "checkpoint")
    assert len(checkpoint) == 2 + 32 * 2 * 2
    assert checkpoint["llama_proj.weight"] == (4096, 5632)
    stem = "llama_model.base_model.model.model.layers.31.self_attn.v_proj"
    assert checkpoint[f"{stem}.lora_A.weight"] == (64, 4096)
    assert checkpoint[f"{stem}.lora_B.weight"] == (4096, 64)


def test_the_official_files_of_limber() -> None:
    table = full_size("limber")[2]
    assert official_names(table, "projection") == {"weight": (4096, 1024), "bias": (4096,)}
    language = official_names(table, "language")
    assert language["transformer.wte.weight"] == (50400, 4096)
    assert language["lm_head.bias"] == (50400,)
    assert language["transformer.h.27.attn.out_proj.weight"] == (4096, 4096)
