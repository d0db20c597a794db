"""Inputs for the specimens: image features from pixels where the tower can be fed, else injected."""

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
    """The placeholder's id, under the names it goes by."""
    names = ("image_token_id", "image_token_index", "image_patch_id")
    return next(int(i) for name in names if (i := getattr(config, name, None)) is not None)


def sequence(model: Any, count: int) -> Row:
    """Text, ``count`` placeholders, text; what else the forward wants to know of each position."""
    middle = torch.full((count,), image_id(model.config))
    ids = torch.cat([torch.tensor([1]), text(BEFORE), middle, text(AFTER)])[None]
    visual = tuple((ids[0] == image_id(model.config)).nonzero().flatten().tolist())
    inputs: Inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    kinds = torch.zeros_like(ids)
    kinds[0, list(visual)] = 1
    takes = inspect.signature(model.forward).parameters
    for name in ("mm_token_type_ids", "token_type_ids", "moe_mm_token_type_ids"):
        if name in takes:
            inputs[name] = kinds
    return inputs, visual


def encoder(model: Any) -> Callable[..., Any] | None:
    """The model's own way from pixels to image features."""
    owners = (module for module in model.modules() if hasattr(module, "get_image_features"))
    return next((owner.get_image_features for owner in owners), None)


def square(model: Any) -> Inputs:
    """One square image."""
    vision = model.config.vision_config
    side = vision.image_size
    side = side if isinstance(side, int) else side[0]
    out: Inputs = {"pixel_values": torch.randn(1, getattr(vision, "num_channels", 3), side, side)}
    if "image_sizes" in asked(model):
        out["image_sizes"] = torch.tensor([[side, side]])
    return out


def grid(model: Any) -> Inputs:
    """Flattened patches and the grid they came from."""
    vision = model.config.vision_config
    frames = getattr(vision, "temporal_patch_size", getattr(vision, "patch_temporal", 1))
    width = channels(vision) * frames * vision.patch_size**2
    return {"pixel_values": torch.randn(16, width), "image_grid_thw": torch.tensor([[1, 4, 4]])}


def square_patches(model: Any) -> Inputs:
    """Patches that are still squares, and their grid."""
    vision = model.config.vision_config
    side = vision.patch_size
    pixels = torch.randn(16, channels(vision), side, side)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]])}


def tiles(model: Any) -> Inputs:
    """An image and its tiles, as for any resolution."""
    given = square(model)
    side = given["pixel_values"].shape[-1]
    return {
        "pixel_values": torch.randn(1, 3, 3, side, side),
        "image_sizes": torch.tensor([[side, 2 * side]]),
    }


def listed(model: Any) -> Inputs:
    """One image in a row's list of images."""
    given = square(model)["pixel_values"]
    return {"pixel_values": given[None]}


def channels(vision: Any) -> int:
    return int(getattr(vision, "in_channels", getattr(vision, "num_channels", 3)))


def asked(model: Any) -> Sequence[str]:
    encode = encoder(model)
    return list(inspect.signature(encode).parameters) if encode else []


LAYOUTS: tuple[Callable[[Any], Inputs], ...] = (grid, square_patches, square, tiles, listed)


@torch.no_grad()
def count_features(model: Any, given: Inputs) -> int:
    """How many positions the model's own features of these pixels fill."""
    encode = encoder(model)
    if encode is None:
        raise ValueError("no get_image_features")
    found = encode(**given)
    whole = [
        f for name in ("pooler_output", "last_hidden_state") if (f := getattr(found, name, None)) is not None
    ]
    # Without either, features are added inside the layers alone, as pairs of a layer and what it gets.
    chosen = whole[0] if whole else found.deepstack_features[0][1]
    return sum(f.numel() // f.shape[-1] for f in ([chosen] if isinstance(chosen, Tensor) else chosen))


def derived_inputs(model: Any) -> Row:
    """The first layout of pixels that the model takes; random features where it takes none."""
    ways = [partial(from_pixels, layout=layout) for layout in LAYOUTS]
    ways += [partial(injected, form=form) for form in (list, torch.cat)]
    failures = []
    for way in ways:
        try:
            return tried(model, way(model))
        except Exception as failure:  # whatever a layout breaks in the model
            failures.append(f"{failure!r:.120}")
    raise ValueError("; ".join(dict.fromkeys(failures)))


def from_pixels(model: Any, layout: Callable[[Any], Inputs]) -> Row:
    """Pixels, as many placeholders as they give features, and text around them."""
    given = layout(model)
    inputs, visual = sequence(model, count_features(model, dict(given)))
    return {**inputs, **given}, visual


@torch.no_grad()
def tried(model: Any, row: Row) -> Row:
    """The row, once the model has taken it: all of it, nothing passed on and left unread."""
    unread = row[0].keys() - inspect.signature(model.forward).parameters.keys()
    if unread:
        raise TypeError(f"takes no {', '.join(sorted(unread))}")
    model(**copied(row[0]), use_cache=False)
    return row


def copied(inputs: Mapping[str, Any]) -> Inputs:
    """A copy to run on: some models write into the dictionaries they are given."""
    return {k: dict(v) if isinstance(v, dict) else v for k, v in inputs.items()}


def injected(model: Any, form: Callable[[list[Tensor]], Any], count: int = 6) -> Row:
    """Random image features handed over in the encoder's place."""
    width = model.get_input_embeddings().weight.shape[1]
    found = BaseModelOutputWithPooling(pooler_output=form([torch.randn(count, width)]))
    inputs, visual = sequence(model, count)
    return {**inputs, "mm_encoder_outputs": {"image": found}}, visual
