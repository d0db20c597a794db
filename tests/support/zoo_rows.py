"""Handwritten inputs for the types whose layout cannot be derived."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.support.zoo_inputs import Inputs, Row, checked_row, from_pixels, grid, square, text

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
    """Patches and the position of each."""
    vision = model.config.vision_config
    size = getattr(vision, "model_patch_size", vision.patch_size)
    patch_positions = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1)
    return {
        "pixel_values": torch.rand(1, side**2, 3 * size**2),
        "image_position_ids": patch_positions.reshape(1, -1, 2),
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
    inputs = grid(model)
    return {
        "pixel_values": inputs["pixel_values"][:, : 3 * model.config.vision_config.patch_size**2],
        "image_grid_hw": inputs["image_grid_thw"][:, 1:],
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


def padded_patches(model: Any) -> Inputs:
    """Padded rows of flattened patches and each image's shape."""
    vision = model.config.vision_config
    return {
        "pixel_values": torch.randn(1, 16, 3 * vision.patch_size**2),
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }


def coarse_image(side: int, **more: Any) -> Layout:
    """One square image of this side, made of coarse squares, because fine noise would be averaged away."""

    def image(_: Any) -> Inputs:
        coarse = torch.randn(1, 3, side // 4, side // 4)
        return {"pixel_values": coarse.repeat_interleave(4, 2).repeat_interleave(4, 3), **more}

    return image


def flat_patches(model: Any) -> Inputs:
    size = model.config.patch_size
    return {"pixel_values": torch.randn(1, 6, 3 * size**2)}


PIXELS: dict[str, Layout] = {
    "chameleon": coarse_image(16),
    "deepseek_ocr2": coarse_image(64),
    "deepseek_vl_hybrid": coarse_and_fine,
    "emu3": coarse_image(16, image_sizes=torch.tensor([[16, 16]])),
    "fuyu": flat_patches,
    "gemma4": positions,
    "gemma4_unified": partial(positions, side=2),
    "granite_docling": tile_mask,
    "inkling2": merged_grid,
    "inkling_mm_model": folded_patches,
    "lfm2_vl": padded_patches,
    "minicpm_ocr": packed_strip,
    "minicpmv4_6": packed_strip,
    "minicpmv4_7": packed_strip,
    "molmo2": pooled_crops,
    "nemotron_h_omni": grid_of_two,
    "unlimited_ocr": coarse_image(64),
    "video_llama_3": merge_sizes,
}


def pixel_row(model: Any, layout: Layout) -> Row:
    return checked_row(model, from_pixels(model, layout))


def words(count: int = 12) -> Inputs:
    """A row of text alone."""
    ids = torch.cat([torch.tensor([1]), text(count - 1)])[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def answer(count: int = 9) -> Inputs:
    """The beginning of an encoder-decoder's answer."""
    return {"decoder_input_ids": torch.cat([torch.tensor([2]), text(count - 1)])[None]}


def prefix_row(model: Any) -> Row:
    """Image features come before the text, without placeholders: each patch and the class token."""
    image = square(model)
    patches = (image["pixel_values"].shape[-1] // model.config.vision_config.patch_size) ** 2
    return {**words(), **image}, tuple(range(patches + 1))


def cross_attention_row(model: Any) -> Row:
    """Text that attends to the image by cross-attention."""
    return {**words(), **square(model)}, ()


def cross_attention_images(model: Any) -> Row:
    """The same, with the images that each position may attend to; the first may attend to none."""
    inputs = words()
    image_mask = torch.ones(1, inputs["input_ids"].shape[1], 1)
    image_mask[:, 0] = 0
    side = model.config.vision_config.image_size
    return {
        **inputs,
        "pixel_values": torch.randn(1, 1, 3, side, side),
        "image_attention_mask": image_mask,
    }, ()


def cross_attention_tiles(model: Any) -> Row:
    """One image of one tile, of at most four."""
    inputs = words()
    inputs["input_ids"][0, 1] = model.config.image_token_index
    side = model.config.vision_config.image_size
    tile = torch.tensor([1, 0, 0, 0])
    image_mask = torch.zeros(1, inputs["input_ids"].shape[1], 1, 4, dtype=torch.long)
    image_mask[:, 1:] = tile
    images = {
        "pixel_values": torch.randn(1, 1, 4, 3, side, side),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": tile[None, None],
        "cross_attention_mask": image_mask,
    }
    return {**inputs, **images}, ()


def masked_row(model: Any, image: Inputs) -> Row:
    """A mask marks the positions of image features; the ids there do not matter."""
    inputs, _ = words(20)["input_ids"], ()
    mask = torch.zeros_like(inputs)
    mask[:, 3 : 3 + model.config.latent_query_num] = 1
    visual = tuple(mask[0].nonzero().flatten().tolist())
    text_inputs = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}
    return {**text_inputs, **image, "image_embeds_position_mask": mask}, visual


def numbered_patches(model: Any) -> Inputs:
    """Flattened patches, each preceded by its row and column."""
    vision = model.config.vision_config
    patch_positions = torch.cartesian_prod(torch.arange(1.0, 5), torch.arange(1.0, 5))
    return {
        "flattened_patches": torch.cat([patch_positions, torch.randn(16, vision.patch_embed_hidden_size)], 1)[
            None
        ]
    }


def query_row(model: Any, frames: int = 1) -> Row:
    """Placeholders for a Q-Former's queries, with a question for it if it takes one."""
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


def encoder_row(model: Any, layout: Layout = square) -> Row:
    """Placeholders in the encoder's sequence, and the beginning of an answer."""
    inputs, _ = from_pixels(model, layout)
    return {**inputs, **answer()}, ()


def image_encoder_row(model: Any, layout: Layout) -> Row:
    """The image alone in the encoder, and the beginning of an answer."""
    return {**layout(model), **answer(12)}, ()


def page_row(model: Any) -> Row:
    """Words and their boxes on the page."""
    inputs = words()
    corners = torch.rand(1, inputs["input_ids"].shape[1], 2) * 0.5
    boxes = torch.cat([corners, corners + 0.25], -1)
    side = model.config.image_size
    return {**inputs, "bbox": boxes, "pixel_values": torch.randn(1, 3, side, side), **answer()}, ()


def canvas_row(model: Any) -> Row:
    """A prompt with an image for the encoder, and a canvas to refine."""
    inputs, _ = from_pixels(model, positions)
    return {**inputs, "decoder_input_ids": text(model.config.canvas_length)[None]}, ()


def prefix_only_row(model: Any) -> Row:
    """A row without a suffix: token types of one would mark a suffix."""
    inputs, visual = pixel_row(model, square)
    return {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}, visual


def text_row(model: Any) -> Row:
    """Text without an image."""
    return words(16), ()


def photograph(model: Any) -> Inputs:
    """One square image, for a model whose encoder is its vision encoder."""
    side = model.config.encoder.image_size
    return {"pixel_values": torch.randn(1, 3, side, side)}


ROWS: dict[str, Callable[[Any], Row]] = {
    **{name: partial(pixel_row, layout=layout) for name, layout in PIXELS.items()},
    "blip": cross_attention_row,
    "blip-2": query_row,
    "diffusion_gemma": canvas_row,
    "evolla": text_row,
    "florence2": partial(encoder_row, layout=coarse_image(32)),
    "git": prefix_row,
    "idefics": cross_attention_images,
    "instructblip": query_row,
    "instructblipvideo": partial(query_row, frames=4),
    "kosmos-2": lambda model: masked_row(model, square(model)),
    "kosmos-2.5": lambda model: masked_row(model, numbered_patches(model)),
    "mistral4": text_row,
    "mllama": cross_attention_tiles,
    "paligemma": prefix_only_row,
    "pix2struct": partial(image_encoder_row, layout=numbered_patches),
    "pp_formulanet": partial(image_encoder_row, layout=square),
    "t5gemma2": partial(encoder_row, layout=coarse_image(16)),
    "udop": page_row,
    "vision-encoder-decoder": partial(image_encoder_row, layout=photograph),
}
