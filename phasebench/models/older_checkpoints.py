"""Checkpoints from before November 2024 and their fine-tunes: what their files lack is filled in from others.

Since then transformers' processors put one token into the prompt for each feature of the image. They need the
image token in config.json, and in processor_config.json what decides the number of features.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from phasebench.errors import InputError
from phasebench.models.anatomy.parts import PLACEHOLDERS
from phasebench.models.checks import read_json
from phasebench.models.hub import Hub
from phasebench.models.named_models import named_models

PROCESSOR_KEYS = {
    "patch_size": ("vision_config", "patch_size"),
    "vision_feature_select_strategy": ("vision_feature_select_strategy",),
    "num_query_tokens": ("num_query_tokens",),
}
"""A key of a processor -> the path to its value in the model's configuration."""
FEATURES_BESIDE_PATCHES = "num_additional_image_tokens"
"""The processor's key for the features of an image besides those of its patches."""


def complete_processor(processor: Any, config: Any, folder: Path) -> tuple[str, ...]:
    """Fill in what the processor needs and its files lack; returns a note for what was filled in.

    Args:
        processor: the checkpoint's processor, which is changed.
        config: the configuration of the model.
        folder: the checkpoint's folder.

    Raises:
        InputError: a key is neither in the processor's files nor in config.json; the message names it.
    """
    filled = dict(_missing_values(processor, config, folder))
    for key, value in filled.items():
        setattr(processor, key, value)
    values = ", ".join(f"{key} {value}" for key, value in filled.items())
    return (f"not in processor_config.json, so taken from config.json: {values}",) if filled else ()


def _missing_values(processor: Any, config: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    for key, path in PROCESSOR_KEYS.items():
        if getattr(processor, key, "") is not None:
            continue
        value = config
        for name in path:
            value = getattr(value, name, None)
        if value is None:
            raise InputError(
                f"{folder / 'processor_config.json'} has no {key}, nor has config.json"
                f"{_published_revision(config)}"
            )
        yield key, value
    saved = folder / "processor_config.json"
    knows = saved.is_file() and FEATURES_BESIDE_PATCHES in read_json(saved)
    vision = getattr(getattr(config, "vision_config", None), "model_type", "")
    if getattr(processor, FEATURES_BESIDE_PATCHES, None) == 0 and not knows and "clip" in vision:
        yield FEATURES_BESIDE_PATCHES, 1


def missing_image_token(processor: Any, config: Any, folder: Path) -> int | None:
    """The id of the image token if only the tokenizer has it, else None.

    Raises:
        InputError: neither has it, or the model has no embedding for the tokenizer's.
    """
    saved = read_json(folder / "config.json")
    if any(saved.get(name) is not None for name in PLACEHOLDERS):
        return None
    key = next((name for name in reversed(PLACEHOLDERS[:2]) if hasattr(config, name)), None)
    if key is None:
        return None
    tokenizer = processor.tokenizer
    token = tokenizer.get_vocab().get(str(getattr(processor, "image_token", "<image>")))
    rows = int(config.get_text_config().vocab_size)
    if token is not None and token < rows:
        return None if token == getattr(config, key) else token
    if getattr(config, key) is not None:
        return None  # the default of the model's type; check_image_token compares it with the tokenizer
    raise InputError(
        f"{folder / 'config.json'} has no {key}, and no row of its {rows} embeddings is for an image token"
        f"{_published_revision(config)}"
    )


def _published_revision(config: Any) -> str:
    """The revision of a published model of the same type and width, which has the keys; empty if none is."""
    for spec in named_models():
        if spec.config is None or not isinstance(spec.source, Hub) or not spec.source.revision:
            continue
        published = AutoConfig.from_pretrained(spec.config)
        same_width = published.get_text_config().hidden_size == config.get_text_config().hidden_size
        if published.model_type == config.model_type and same_width:
            return f"; {spec.source.repository} has it since revision {spec.source.revision}"
    return "; newer revisions of the published models have it"
