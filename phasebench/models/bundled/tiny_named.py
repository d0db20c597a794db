"""``tiny-random-*``: the named models' configurations made narrow and shallow, all else kept; for tests only.

Kept are the file layout, image and patch sizes, vocabulary sizes and token ids. The tokenizers have as many
entries as the real ones, which may not be redistributed, but other words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    InstructBlipProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from phasebench.datasets.sprites import NOUNS
from phasebench.files import made_once

VERSION = 1
"""Of what is written: a cache made before a change is not used after it."""
LLAMA = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16,
}  # fmt: skip
OPT = {
    "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "word_embed_proj_dim": 64,
}  # fmt: skip
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "num_layers": 4, "num_decoder_layers": 2}
TEXTS = {"llama": LLAMA, "opt": OPT, "t5": T5}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
KNOWN = {"extra_special_tokens": {"image_token": "<image>"}}
QFORMER = {**VISION, "encoder_hidden_size": 32, "max_position_embeddings": 64}


def shrunk(name: str, full: Path, cache: Path) -> Path:
    """The folder of the model called ``name``, made on first use, as the publisher of the one that has the
    configuration ``full`` lays it out."""
    return made_once(cache / f"{name}-{VERSION}", lambda folder: _write(full, folder))


def _write(full: Path, folder: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(full)
    _resize(config.vision_config, VISION)
    _resize(config.text_config, TEXTS[config.text_config.model_type])
    if hasattr(config, "qformer_config"):
        _resize(config.qformer_config, QFORMER)
    model = AutoModelForImageTextToText.from_config(config)
    if hasattr(model, "query_tokens"):
        torch.nn.init.normal_(model.query_tokens, std=0.5)
    model.save_pretrained(folder)
    PROCESSORS[config.model_type](config).save_pretrained(folder)


def _resize(config: Any, sizes: dict[str, int]) -> None:
    for key, value in sizes.items():
        if hasattr(config, key):
            setattr(config, key, value)
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, key, min(getattr(config, key, None) or 0, 2))


def tokenizer(entries: int, image_token: int, **extra: Any) -> PreTrainedTokenizerFast:
    """``entries`` words, those of the scenes among them, and ``<image>`` at its id."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *NOUNS]
    vocabulary = {word: index for index, word in enumerate(words)}
    for index in range(len(words), entries):
        vocabulary["<image>" if index == image_token else f"w{index}"] = index
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **extra,
    )


def _words(config: Any, **extra: Any) -> PreTrainedTokenizerFast:
    """As many entries as are used of the padded vocabulary: up to the image token, and a pad behind it."""
    return tokenizer(config.image_token_index + 2, config.image_token_index, **extra)


def _llava(config: Any) -> Any:
    images = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return LlavaProcessor(
        images, _words(config, **KNOWN), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def _llava_next(config: Any) -> Any:
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=config.image_grid_pinpoints,
    )
    return LlavaNextProcessor(
        images, _words(config, **KNOWN), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def _blip_images() -> Any:
    return BlipImageProcessor(size={"height": 224, "width": 224})


def _instructblip(config: Any) -> Any:
    questions = tokenizer(config.qformer_config.vocab_size, -1)
    return InstructBlipProcessor(_blip_images(), _words(config), questions, num_query_tokens=32)


def _blip2(config: Any) -> Any:
    return Blip2Processor(_blip_images(), _words(config), num_query_tokens=32)


PROCESSORS: dict[str, Callable[[Any], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "instructblip": _instructblip,
    "blip-2": _blip2,
}
