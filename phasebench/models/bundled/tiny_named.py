"""``tiny-random-*``: the named models, narrow and shallow and with random weights, for tests only.

File layout, image and patch sizes, vocabulary sizes and token ids are the named models'. The tokenizers have
as many entries as the real ones, but other words, since the real ones may not be redistributed.
"""

from __future__ import annotations

import json
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
from phasebench.files import make_folder_once
from phasebench.models.processors import PARTS

VERSION = 2
"""Version of the written folders, part of their names, so that an outdated cache is not used."""
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
PUBLISHED_CLASSES = {"instructblip-7b": "InstructBlipVideoProcessor"}
"""Name of a model -> the class in its processor_config.json, if that is not the one of the model's type."""
IMAGE_TOKEN = {"extra_special_tokens": {"image_token": "<image>"}}
QFORMER = {**VISION, "encoder_hidden_size": 32, "max_position_embeddings": 64}


def make_tiny_random_model(name: str, config_file: Path, cache: Path) -> Path:
    """The folder of the tiny model called ``name``, made on first use.

    ``config_file`` has the configuration of the named model, whose publisher's file layout it gets.
    """
    return make_folder_once(cache / f"{name}-{VERSION}", lambda folder: _write(config_file, folder))


def _write(config_file: Path, folder: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(config_file)
    _resize(config.vision_config, VISION)
    _resize(config.text_config, TEXTS[config.text_config.model_type])
    if hasattr(config, "qformer_config"):
        _resize(config.qformer_config, QFORMER)
    model = AutoModelForImageTextToText.from_config(config)
    if hasattr(model, "query_tokens"):
        torch.nn.init.normal_(model.query_tokens, std=0.5)
    size = sum(parameter.nbytes for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size=size // 2)
    _write_processor(PROCESSORS[config.model_type](config), config_file.stem, folder)


def _write_processor(processor: Any, name: str, folder: Path) -> None:
    """Write a processor as the publishers did: a file for each part, and a folder for a second tokenizer."""
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    if hasattr(processor, "qformer_tokenizer"):
        processor.qformer_tokenizer.save_pretrained(folder / "qformer_tokenizer")
    own = {key: value for key, value in processor.to_dict().items() if key not in PARTS}
    own["processor_class"] = PUBLISHED_CLASSES.get(name, type(processor).__name__)
    (folder / "processor_config.json").write_text(json.dumps(own, default=str, indent=2), encoding="utf-8")


def _resize(config: Any, sizes: dict[str, int]) -> None:
    for key, value in sizes.items():
        if hasattr(config, key):
            setattr(config, key, value)
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, key, min(getattr(config, key, None) or 0, 2))


def tokenizer(entries: int, image_token: int, **extra: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of ``entries`` words, among them the scenes' nouns, with ``<image>`` at its id."""
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


def _tokenizer(config: Any, **extra: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of all entries of the padded vocabulary that are used: up to the image token, and a pad."""
    return tokenizer(config.image_token_index + 2, config.image_token_index, **extra)


def _llava(config: Any) -> Any:
    images = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return LlavaProcessor(
        images, _tokenizer(config, **IMAGE_TOKEN), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def _llava_next(config: Any) -> Any:
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=config.image_grid_pinpoints,
    )
    return LlavaNextProcessor(
        images, _tokenizer(config, **IMAGE_TOKEN), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def _blip_images() -> Any:
    return BlipImageProcessor(size={"height": 224, "width": 224})


def _instructblip(config: Any) -> Any:
    questions = tokenizer(config.qformer_config.vocab_size, -1)
    return InstructBlipProcessor(_blip_images(), _tokenizer(config), questions, num_query_tokens=32)


def _blip2(config: Any) -> Any:
    return Blip2Processor(_blip_images(), _tokenizer(config), num_query_tokens=32)


PROCESSORS: dict[str, Callable[[Any], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "instructblip": _instructblip,
    "blip-2": _blip2,
}
