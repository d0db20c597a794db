"""A tiny model of every image-text-to-text type that transformers knows, and inputs for it.

Configs are derived from each config class's own defaults, so a type that a later release adds is included
automatically: built, or reported with the reason why not. ``python -m tests.support.zoo`` lists all types.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
import transformers
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from tests.support.versions import IS_OLDER, TRANSFORMERS
from tests.support.zoo_inputs import TEXT, copy_inputs, derived_inputs
from tests.support.zoo_overrides import (
    ADJUSTMENTS,
    IMPOSSIBLE,
    PATCHES,
    POSITION_INPUTS,
    STUBS,
    UNPADDABLE,
    VARIANTS,
)
from tests.support.zoo_rows import ROWS
from tests.support.zoo_shrink import config

MAX_DEVIATION = 0.12


class Unbuildable(Exception):  # noqa: N818 - a fact about a type, no error
    """No specimen of this type; the message is the reason."""


@dataclass(frozen=True)
class Specimen:
    """A model and one row for it.

    ``visual`` has the positions of the language model's sequence with image features. It is empty if there
    are none: with cross-attention, and with images that only an encoder gets.
    """

    type: str
    model: Any
    inputs: dict[str, Any]
    visual: tuple[int, ...]


def types() -> list[str]:
    """Every image-text-to-text type of the installed transformers."""
    return sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def variants() -> list[str]:
    """Further specimens of types that allow several text models."""
    return sorted(VARIANTS)


def specimen(type: str, *, seed: int = 0) -> Specimen:  # noqa: A002 - transformers' own word
    """The specimen of a type or variant, after one forward pass.

    Raises:
        Unbuildable: there is none; the message is the reason.
    """
    kind = type.partition("/")[0]
    if kind in IMPOSSIBLE:
        raise Unbuildable(IMPOSSIBLE[kind])
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            model = build(type)
            inputs, visual = ROWS.get(kind, derived_inputs)(model)
            logits = forward(model, inputs).logits
        except Exception as failure:
            if IS_OLDER:
                pytest.skip(f"transformers {TRANSFORMERS} has no such {type}: {failure}")
            raise Unbuildable(" ".join(f"{failure.__class__.__name__}: {failure}".split())) from failure
    if not torch.isfinite(logits).all():
        raise Unbuildable("logits are not finite")
    return Specimen(type, model, inputs, visual)


def build(name: str) -> Any:
    """The model, with weights so different that an error becomes visible."""
    kind = name.partition("/")[0]
    cls = getattr(transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[kind])
    with STUBS.get(kind, nullcontext)():
        model = cls(config(kind, VARIANTS.get(name, PATCHES.get(kind, {}))))
    model = model.float().eval().requires_grad_(False)
    randomise(model)
    if kind in ADJUSTMENTS:
        ADJUSTMENTS[kind](model)
    return model


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Fill matrices with noise; add some to vectors (norms, biases, gates)."""
    for parameter in model.parameters():
        if parameter.ndim < 2:
            parameter.add_(0.1 * torch.randn_like(parameter))
        else:
            fan_in = parameter[0].numel() if parameter.ndim > 3 else parameter.shape[-1]
            parameter.normal_(0.0, min(MAX_DEVIATION, 1.2 * fan_in**-0.5))


@torch.no_grad()
def forward(model: Any, inputs: Mapping[str, Any]) -> Any:
    """One pass without a cache, on a copy of the inputs' dictionaries."""
    return model(**copy_inputs(inputs), use_cache=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' warnings about odd sizes and missing kernels."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def padded(specimen: Specimen, side: Literal["left", "right"], by: int = 3) -> dict[str, Any]:
    """The same row with ``by`` positions of padding; images stay as they are.

    Raises:
        NotImplementedError: padding changes the architecture's results; the message has the reason.
    """
    sides, reason = UNPADDABLE.get(specimen.type, ((), ""))
    if side in sides:
        raise NotImplementedError(reason)
    inputs = with_mask(specimen.inputs)
    out = dict(inputs)
    for name in per_position(inputs):
        value = inputs[name]
        fill = pad_id(specimen.model) if name.endswith("input_ids") else 0
        padding = value.new_full((1, by, *value.shape[2:]), fill)
        out[name] = torch.cat([padding, value] if side == "left" else [value, padding], 1)
    return with_positions(specimen.type, out)


def batched(specimen: Specimen, by: int = 3) -> dict[str, Any]:
    """The row padded on the left, and below it a row with ``by`` more tokens of text."""
    inputs, first = with_mask(specimen.inputs), padded(specimen, "left", by)
    second = longer(specimen, by)
    out: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in per_position(inputs):
            out[name] = torch.cat([first[name], second[name]])
        else:
            out[name] = for_two_rows(specimen.type, name, value)
    return with_positions(specimen.type, out)


def longer(specimen: Specimen, by: int = 3) -> dict[str, Any]:
    """The second row of ``batched`` alone."""
    inputs = with_mask(specimen.inputs)
    out = dict(inputs)
    for name in per_position(inputs):
        value = inputs[name]
        more = torch.cat([value, value[:, -1:].expand(-1, by, *value.shape[2:])], 1)
        out[name] = with_new_words(more, by) if name == row_name(inputs) else more
    return with_positions(specimen.type, out)


def with_positions(type: str, inputs: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    """The inputs with positions that skip padding, for models that would count it."""
    if type not in POSITION_INPUTS:
        return inputs
    mask = inputs[row_name(inputs).replace("input_ids", "attention_mask")]
    return {**inputs, POSITION_INPUTS[type]: (mask.cumsum(-1) - 1).clamp(min=0)}


def with_new_words(ids: Tensor, by: int) -> Tensor:
    """The ids with new words at the end, the same at every call."""
    words = torch.arange(by) * 7 + TEXT.start
    return torch.cat([ids[:, :-by], words[None]], 1)


def for_two_rows(type: str, name: str, value: Any) -> Any:  # noqa: A002
    """An input with the image of both rows."""
    if isinstance(value, dict):
        return {key: features_for_two_rows(features) for key, features in value.items()}
    if type.startswith("minicpm") and name == "pixel_values":
        return torch.cat([value, value], -1)  # one strip of all images' patches
    if name == "image_token_pooling":
        return torch.cat([value, value + int(value.max()) + 1])  # indices into all images' patches
    return torch.cat([value, value])


def features_for_two_rows(features: Any) -> Any:
    """Injected features for both rows, in the same form."""
    pooled = features.pooler_output
    both = [*pooled, *pooled] if isinstance(pooled, list) else torch.cat([pooled, pooled])
    return features.__class__(pooler_output=both)


def row_name(inputs: Mapping[str, Any]) -> str:
    """The name of the input with the row's ids: the decoder's if there is no other."""
    return "input_ids" if "input_ids" in inputs else "decoder_input_ids"


def with_mask(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with an attention mask for the row, added if there is none."""
    name = row_name(inputs)
    mask = name.replace("input_ids", "attention_mask")
    return {**inputs, mask: inputs.get(mask, torch.ones_like(inputs[name]))}


def per_position(inputs: Mapping[str, Any]) -> list[str]:
    """The names of inputs with a value for each position of the row."""
    shape = inputs[row_name(inputs)].shape
    excluded = ("pixel_", "qformer_", *(("decoder_",) if "input_ids" in inputs else ()))
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    return [n for n, value in tensors.items() if value.shape[:2] == shape and not n.startswith(excluded)]


def pad_id(model: Any) -> int:
    """The id of padding tokens."""
    return getattr(model.config.get_text_config(decoder=True), "pad_token_id", None) or 0


def line(name: str) -> str:
    """One line about a type: its specimen's sizes, or why there is none."""
    start = time.perf_counter()
    try:
        built = specimen(name)
    except Unbuildable as reason:
        return f"{name:24} not built: {reason}"
    seconds = time.perf_counter() - start
    size = sum(parameter.numel() for parameter in built.model.parameters())
    positions = built.inputs[row_name(built.inputs)].shape[1]
    source = "features" if "mm_encoder_outputs" in built.inputs else "pixels" if built.visual else "-"
    counts = f"{positions:4} positions {len(built.visual):4} visual ({source})"
    return f"{name:24} built {seconds:5.2f} s {counts} {size:9,} parameters"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:] or [*types(), *variants()]:
        print(line(argument), flush=True)
