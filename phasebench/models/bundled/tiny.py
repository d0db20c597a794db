"""Tiny models with random weights, made in seconds, for tests only."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BlipImageProcessor,
    CLIPImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip import CLIPVisionConfig

from phasebench.datasets.scenes import BACKGROUNDS, SIZE
from phasebench.datasets.sprites import NOUNS
from phasebench.files import make_folder_once

WIDTH = 64
QUERIES = 4
PATCH = 24
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": SIZE, "patch_size": PATCH,
}  # fmt: skip
"""Sizes of both models' vision encoders."""
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
TEXT = (
    "user : describe the picture . assistant a an and of on is there in to left right above below background"
)


def make_tiny_model(name: str, cache: Path) -> Path:
    """The folder of ``tiny-llava`` or ``tiny-instructblip``, made on first use."""
    make = {"tiny-llava": _llava, "tiny-instructblip": _instructblip}[name]
    return make_folder_once(cache / f"{name}-1", make)


def word_tokenizer(*, with_image: bool = True) -> PreTrainedTokenizerFast:
    """One token per word of the scenes' captions; splits on white space."""
    entries = dict.fromkeys([*SPECIAL, *TEXT.split(), *NOUNS, *BACKGROUNDS])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(entries)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    extra = {"extra_special_tokens": {"image_token": "<image>"}} if with_image else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **extra,
    )


def _language(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip


def _llava(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    vision = CLIPVisionConfig(**VISION)
    config = LlavaConfig(
        vision_config=vision, text_config=_language(len(tokenizer)), image_token_id=image_token,
        vision_feature_layer=-1, image_seq_length=(SIZE // PATCH) ** 2,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": SIZE, "width": SIZE}, do_center_crop=False)
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def _instructblip(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer, questions = word_tokenizer(with_image=False), word_tokenizer(with_image=False)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    vision = InstructBlipVisionConfig(**VISION)
    qformer = InstructBlipQFormerConfig(
        vocab_size=len(questions), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, encoder_hidden_size=32, cross_attention_frequency=1,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    config = InstructBlipConfig(
        vision_config=vision, qformer_config=qformer, text_config=_language(len(tokenizer)),
        num_query_tokens=QUERIES, image_token_index=image_token,
    )  # fmt: skip
    model = InstructBlipForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens, std=0.5)
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    InstructBlipProcessor(images, tokenizer, questions, num_query_tokens=QUERIES).save_pretrained(folder)
