"""An oracle as a folder in the Hugging Face layout, and its pictures as a data set on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip import CLIPVisionConfig

from phasebench.datasets.image_list import read_list
from phasebench.datasets.sample import Sample
from tests.oracles.language import (
    HEAD_WIDTH,
    NEURONS,
    THETA,
    Blocks,
    embedding_weight,
    head_weight,
    set_weight,
)
from tests.oracles.plan import HEADS, Picture, Plan, caption
from tests.oracles.space import NOUNS, VISUAL, WRITTEN, Space
from tests.oracles.vision_encoder import PATCH, SIDE, draw, fill_encoder, fill_projector

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
ENTRIES = {word: number for number, word in enumerate((*SPECIAL, *WRITTEN, "nothing", *NOUNS))}
TINY = 1e-12
"""Epsilon of the norms: it must not change a root mean square of 1."""


def write_model(plan: Plan, folder: Path) -> Path:
    """Save the oracle as a checkpoint with its processor; returns ``folder``."""
    space = Space(plan.layers)
    model = LlavaForConditionalGeneration(_config(space))
    fill_encoder(model.model.vision_tower, space)
    fill_projector(model.model.multi_modal_projector, plan, space)
    Blocks(plan, space).fill(model.get_decoder().layers)
    set_weight(model.get_input_embeddings(), embedding_weight(plan, space, ENTRIES, WRITTEN))
    set_weight(model.get_output_embeddings(), head_weight(space, ENTRIES))
    model.save_pretrained(folder)
    _processor().save_pretrained(folder)
    return folder


def _config(space: Space) -> LlavaConfig:
    torch.manual_seed(0)  # for the weights that stay random: their outputs are not used
    text = LlamaConfig(
        vocab_size=len(ENTRIES), hidden_size=space.width, intermediate_size=NEURONS,
        num_hidden_layers=space.layers, num_attention_heads=HEADS, num_key_value_heads=1, head_dim=HEAD_WIDTH,
        rope_parameters={"rope_type": "default", "rope_theta": THETA}, rms_norm_eps=TINY,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=space.width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        image_size=SIDE, patch_size=PATCH, layer_norm_eps=TINY,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=ENTRIES["<image>"], vision_feature_layer=-1,
        image_seq_length=VISUAL,
    )  # fmt: skip


def _processor() -> LlavaProcessor:
    tokenizer = Tokenizer(models.WordLevel(ENTRIES, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, do_normalize=False
    )
    return LlavaProcessor(
        images,
        fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def write_pictures(pictures: Sequence[Picture], folder: Path) -> list[Sample]:
    """Save the pictures, their captions in captions.jsonl; returns the samples as phasebench reads them."""
    folder.mkdir(parents=True)
    lines = []
    for number, picture in enumerate(pictures):
        draw(picture).save(folder / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "captions": [caption(number)]}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_list(folder / "captions.jsonl")
