"""Inputs by hand for the types whose own layout no rule gives away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.support.zoo_inputs import Inputs, Row, from_pixels, grid, square, text, tried

Layout = Callable[[Any], Inputs]


def merged_grid(model: Any) -> Inputs:
    """Blocks of patches, channels last, and the grid of the blocks."""
    vision = model.config.vision_config
    side = vision.patch_size * vision.spatial_merge_size
    pixels = torch.randn(4, side, side, vision.num_channels)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 2]])}


def folded_patches(model: Any) -> Inputs:
    """Blocks of frames and pixels, channels last."""
    vision = model.config.vision_config
    side = vision.patch_size
    return {"pixel_values": torch.randn(4, vision.temporal_patch_size, side, side, vision.num_channels)}


def merge_sizes(model: Any) -> Inputs:
    return {**grid(model), "image_merge_sizes": torch.tensor([2])}


def tile_mask(model: Any) -> Inputs:
    return {
        "pixel_values": square(model)["pixel_values"][None],
        "pixel_attention_mask": torch.ones(1, 1, dtype=torch.bool),
    }


def coarse_and_fine(model: Any) -> Inputs:
    """The same image for both towers."""
    side = model.config.high_res_vision_config.image_size
    return {**square(model), "high_res_pixel_values": torch.randn(1, 3, side, side)}


def positions(model: Any, *, side: int = 6) -> Inputs:
    """Patches and the place of each."""
    vision = model.config.vision_config
    size = getattr(vision, "model_patch_size", vision.patch_size)
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1)
    return {
        "pixel_values": torch.rand(1, side**2, 3 * size**2),
        "image_position_ids": places.reshape(1, -1, 2),
    }


def packed_strip(model: Any) -> Inputs:
    """All patches of the images side by side in one strip."""
    size = model.config.vision_config.patch_size
    return {
        "pixel_values": torch.randn(1, 3, size, 64 * size),
        "target_sizes": torch.tensor([[8, 8]], dtype=torch.int32),
    }


def grid_of_two(model: Any) -> Inputs:
    """A grid without a time axis."""
    given = grid(model)
    return {
        "pixel_values": given["pixel_values"][:, : 3 * model.config.vision_config.patch_size**2],
        "image_grid_hw": given["image_grid_thw"][:, 1:],
    }


def pooled_crops(model: Any) -> Inputs:
    """Crops of flattened patches; each position pools four of them."""
    vision = model.config.vision_config
    pooling = torch.arange(16).view(2, 2, 2, 2).transpose(1, 2).reshape(1, 4, 4)
    return {
        "pixel_values": torch.randn(1, 16, 3 * vision.patch_size**2),
        "image_token_pooling": pooling[0],
        "image_grids": torch.tensor([[2, 2, 0, 0]]),
    }


def shaped(model: Any) -> Inputs:
    """Padded rows of flattened patches and each image's shape."""
    vision = model.config.vision_config
    return {
        "pixel_values": torch.randn(1, 16, 3 * vision.patch_size**2),
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }


def of_side(side: int, **more: Any) -> Layout:
    """One square image of this side, of coarse squares: fine grain would be averaged away."""

    def image(_: Any) -> Inputs:
        coarse = torch.randn(1, 3, side // 4, side // 4)
        return {"pixel_values": coarse.repeat_interleave(4, 2).repeat_interleave(4, 3), **more}

    return image


def flat_patches(model: Any) -> Inputs:
    size = model.config.patch_size
    return {"pixel_values": torch.randn(1, 6, 3 * size**2)}


PIXELS: dict[str, Layout] = {
    "chameleon": of_side(16),
    "deepseek_ocr2": of_side(64),
    "deepseek_vl_hybrid": coarse_and_fine,
    "emu3": of_side(16, image_sizes=torch.tensor([[16, 16]])),
    "fuyu": flat_patches,
    "gemma4": positions,
    "gemma4_unified": partial(positions, side=2),
    "granite_docling": tile_mask,
    "inkling2": merged_grid,
    "inkling_mm_model": folded_patches,
    "lfm2_vl": shaped,
    "minicpm_ocr": packed_strip,
    "minicpmv4_6": packed_strip,
    "minicpmv4_7": packed_strip,
    "molmo2": pooled_crops,
    "nemotron_h_omni": grid_of_two,
    "unlimited_ocr": of_side(64),
    "video_llama_3": merge_sizes,
}


def pixel_row(model: Any, layout: Layout) -> Row:
    return tried(model, from_pixels(model, layout))


def words(count: int = 12) -> Inputs:
    """A row of text alone."""
    ids = torch.cat([torch.tensor([1]), text(count - 1)])[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def answer(count: int = 9) -> Inputs:
    """What an encoder-decoder has written so far."""
    return {"decoder_input_ids": torch.cat([torch.tensor([2]), text(count - 1)])[None]}


def prefixed(model: Any) -> Row:
    """Image features come before the text, without placeholders: each patch and the class token."""
    given = square(model)
    patches = (given["pixel_values"].shape[-1] // model.config.vision_config.patch_size) ** 2
    return {**words(), **given}, tuple(range(patches + 1))


def crossed(model: Any) -> Row:
    """The text looks at the image by cross-attention."""
    return {**words(), **square(model)}, ()


def crossed_images(model: Any) -> Row:
    """As above, each position with the images it may look at; the first may look at none."""
    inputs = words()
    seen = torch.ones(1, inputs["input_ids"].shape[1], 1)
    seen[:, 0] = 0
    side = model.config.vision_config.image_size
    return {**inputs, "pixel_values": torch.randn(1, 1, 3, side, side), "image_attention_mask": seen}, ()


def crossed_tiles(model: Any) -> Row:
    """One image of one tile, of at most four."""
    inputs = words()
    inputs["input_ids"][0, 1] = model.config.image_token_index
    side = model.config.vision_config.image_size
    tile = torch.tensor([1, 0, 0, 0])
    seen = torch.zeros(1, inputs["input_ids"].shape[1], 1, 4, dtype=torch.long)
    seen[:, 1:] = tile
    images = {
        "pixel_values": torch.randn(1, 1, 4, 3, side, side),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": tile[None, None],
        "cross_attention_mask": seen,
    }
    return {**inputs, **images}, ()


def marked(model: Any, given: Inputs) -> Row:
    """Positions of image features are marked by a mask; the ids below it do not matter."""
    inputs, _ = words(20)["input_ids"], ()
    mask = torch.zeros_like(inputs)
    mask[:, 3 : 3 + model.config.latent_query_num] = 1
    visual = tuple(mask[0].nonzero().flatten().tolist())
    text_inputs = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}
    return {**text_inputs, **given, "image_embeds_position_mask": mask}, visual


def numbered_patches(model: Any) -> Inputs:
    """Flattened patches behind their row and column."""
    vision = model.config.vision_config
    places = torch.cartesian_prod(torch.arange(1.0, 5), torch.arange(1.0, 5))
    return {
        "flattened_patches": torch.cat([places, torch.randn(16, vision.patch_embed_hidden_size)], 1)[None]
    }


def queried(model: Any, frames: int = 1) -> Row:
    """A Q-Former's queries, which may read the question as well."""
    config = model.config
    middle = torch.full((config.num_query_tokens * frames,), placeholder(config))
    ids = torch.cat([torch.tensor([1]), middle, text(12)])[None]
    side = config.vision_config.image_size
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    shape = (1, 3, side, side) if frames == 1 else (1, frames, 3, side, side)
    inputs["pixel_values"] = torch.randn(shape)
    if config.model_type.startswith("instructblip"):
        question = text(6)[None]
        inputs |= {"qformer_input_ids": question, "qformer_attention_mask": torch.ones_like(question)}
    if config.use_decoder_only_language_model:
        return inputs, tuple((ids[0] == placeholder(config)).nonzero().flatten().tolist())
    return {**inputs, **answer()}, ()  # the placeholders are the encoder's


def placeholder(config: Any) -> int:
    names = ("image_token_index", "video_token_index", "image_token_id", "video_token_id")
    return next(int(i) for name in names if (i := getattr(config, name, None)) is not None)


def encoded(model: Any, layout: Layout = square) -> Row:
    """Placeholders in the encoder's and an answer begun."""
    inputs, _ = from_pixels(model, layout)
    return {**inputs, **answer()}, ()


def captioned(model: Any, layout: Layout) -> Row:
    """The image alone goes into the encoder."""
    return {**layout(model), **answer(12)}, ()


def page(model: Any) -> Row:
    """Words and where they stand on the page."""
    inputs = words()
    corners = torch.rand(1, inputs["input_ids"].shape[1], 2) * 0.5
    boxes = torch.cat([corners, corners + 0.25], -1)
    side = model.config.image_size
    return {**inputs, "bbox": boxes, "pixel_values": torch.randn(1, 3, side, side), **answer()}, ()


def canvas(model: Any) -> Row:
    """A prompt with an image for the encoder, and a canvas to refine."""
    inputs, _ = from_pixels(model, positions)
    return {**inputs, "decoder_input_ids": text(model.config.canvas_length)[None]}, ()


def all_prefix(model: Any) -> Row:
    """A row without a suffix, which is what ones among the token types would mean."""
    inputs, visual = pixel_row(model, square)
    return {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}, visual


def alone(model: Any) -> Row:
    """Text and nothing else."""
    return words(16), ()


def photograph(model: Any) -> Inputs:
    """One square image for an encoder that is the whole of the vision."""
    side = model.config.encoder.image_size
    return {"pixel_values": torch.randn(1, 3, side, side)}


ROWS: dict[str, Callable[[Any], Row]] = {
    **{name: partial(pixel_row, layout=layout) for name, layout in PIXELS.items()},
    "blip": crossed,
    "blip-2": queried,
    "diffusion_gemma": canvas,
    "evolla": alone,
    "florence2": partial(encoded, layout=of_side(32)),
    "git": prefixed,
    "idefics": crossed_images,
    "instructblip": queried,
    "instructblipvideo": partial(queried, frames=4),
    "kosmos-2": lambda model: marked(model, square(model)),
    "kosmos-2.5": lambda model: marked(model, numbered_patches(model)),
    "mistral4": alone,
    "mllama": crossed_tiles,
    "paligemma": all_prefix,
    "pix2struct": partial(captioned, layout=numbered_patches),
    "pp_formulanet": partial(captioned, layout=square),
    "t5gemma2": partial(encoded, layout=of_side(16)),
    "udop": page,
    "vision-encoder-decoder": partial(captioned, layout=photograph),
}
