"""Inputs for the specimens: image features from pixels if the vision encoder takes them, else injected."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

Inputs = dict[str, Any]
Row = tuple[Inputs, tuple[int, ...]]

BEFORE, AFTER = 5, 9
TEXT = range(10, 300)  # below the ids of discrete image tokens and of special tokens


def text(count: int) -> Tensor:
    """Random ids of ordinary tokens."""
    return torch.randint(TEXT.start, TEXT.stop, (count,))


def image_id(config: Any) -> int:
    """The placeholder's id, which has several names."""
    names = ("image_token_id", "image_token_index", "image_patch_id")
    return next(int(i) for name in names if (i := getattr(config, name, None)) is not None)


def sequence(model: Any, count: int) -> Row:
    """Text, ``count`` placeholders, text, and the forward's other inputs with a value for each position."""
    middle = torch.full((count,), image_id(model.config))
    ids = torch.cat([torch.tensor([1]), text(BEFORE), middle, text(AFTER)])[None]
    visual = tuple((ids[0] == image_id(model.config)).nonzero().flatten().tolist())
    inputs: Inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    kinds = torch.zeros_like(ids)
    kinds[0, list(visual)] = 1
    parameters = inspect.signature(model.forward).parameters
    for name in ("mm_token_type_ids", "token_type_ids", "moe_mm_token_type_ids"):
        if name in parameters:
            inputs[name] = kinds
    return inputs, visual


def encoder(model: Any) -> Callable[..., Any] | None:
    """The model's own function from pixels to image features."""
    owners = (module for module in model.modules() if hasattr(module, "get_image_features"))
    return next((owner.get_image_features for owner in owners), None)


def square(model: Any) -> Inputs:
    """One square image."""
    vision = model.config.vision_config
    side = vision.image_size
    side = side if isinstance(side, int) else side[0]
    out: Inputs = {"pixel_values": torch.randn(1, getattr(vision, "num_channels", 3), side, side)}
    if "image_sizes" in encoder_parameters(model):
        out["image_sizes"] = torch.tensor([[side, side]])
    return out


def grid(model: Any) -> Inputs:
    """Flattened patches and the grid they came from."""
    vision = model.config.vision_config
    frames = getattr(vision, "temporal_patch_size", getattr(vision, "patch_temporal", 1))
    width = channels(vision) * frames * vision.patch_size**2
    return {"pixel_values": torch.randn(16, width), "image_grid_thw": torch.tensor([[1, 4, 4]])}


def square_patches(model: Any) -> Inputs:
    """Square patches, and their grid."""
    vision = model.config.vision_config
    side = vision.patch_size
    pixels = torch.randn(16, channels(vision), side, side)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]])}


def tiles(model: Any) -> Inputs:
    """An image and its tiles."""
    side = square(model)["pixel_values"].shape[-1]
    return {
        "pixel_values": torch.randn(1, 3, 3, side, side),
        "image_sizes": torch.tensor([[side, 2 * side]]),
    }


def image_list(model: Any) -> Inputs:
    """One image in a row's list of images."""
    return {"pixel_values": square(model)["pixel_values"][None]}


def channels(vision: Any) -> int:
    return int(getattr(vision, "in_channels", getattr(vision, "num_channels", 3)))


def encoder_parameters(model: Any) -> Sequence[str]:
    encode = encoder(model)
    return list(inspect.signature(encode).parameters) if encode else []


LAYOUTS: tuple[Callable[[Any], Inputs], ...] = (grid, square_patches, square, tiles, image_list)


@torch.no_grad()
def count_features(model: Any, pixels: Inputs) -> int:
    """The number of positions that the model's own features of these pixels fill."""
    encode = encoder(model)
    if encode is None:
        raise ValueError("no get_image_features")
    output = encode(**pixels)
    names = ("pooler_output", "last_hidden_state")
    candidates = [value for name in names if (value := getattr(output, name, None)) is not None]
    # Without either, features are only added inside the layers, as pairs of a layer and its features.
    features = candidates[0] if candidates else output.deepstack_features[0][1]
    tensors = [features] if isinstance(features, Tensor) else features
    return sum(tensor.numel() // tensor.shape[-1] for tensor in tensors)


def derived_inputs(model: Any) -> Row:
    """Inputs in the first layout of pixels that the model takes; with random features if it takes none."""
    attempts = [partial(from_pixels, layout=layout) for layout in LAYOUTS]
    attempts += [partial(with_injected_features, form=form) for form in (list, torch.cat)]
    failures = []
    for attempt in attempts:
        try:
            return checked_row(model, attempt(model))
        except Exception as failure:  # a wrong layout may raise anything
            failures.append(f"{failure!r:.120}")
    raise ValueError("; ".join(dict.fromkeys(failures)))


def from_pixels(model: Any, layout: Callable[[Any], Inputs]) -> Row:
    """Pixels, as many placeholders as they have features, and text around them."""
    pixels = layout(model)
    inputs, visual = sequence(model, count_features(model, dict(pixels)))
    return {**inputs, **pixels}, visual


@torch.no_grad()
def checked_row(model: Any, row: Row) -> Row:
    """The row, after checking that the model takes every input and runs on it."""
    unknown = row[0].keys() - inspect.signature(model.forward).parameters.keys()
    if unknown:
        raise TypeError(f"takes no {', '.join(sorted(unknown))}")
    model(**copy_inputs(row[0]), use_cache=False)
    return row


def copy_inputs(inputs: Mapping[str, Any]) -> Inputs:
    """A copy of the inputs, since some models write into dictionaries in them."""
    return {k: dict(v) if isinstance(v, dict) else v for k, v in inputs.items()}


def with_injected_features(model: Any, form: Callable[[list[Tensor]], Any], count: int = 6) -> Row:
    """Random image features in place of the encoder's."""
    width = model.get_input_embeddings().weight.shape[1]
    features = BaseModelOutputWithPooling(pooler_output=form([torch.randn(count, width)]))
    inputs, visual = sequence(model, count)
    return {**inputs, "mm_encoder_outputs": {"image": features}}, visual
