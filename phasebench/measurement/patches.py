"""The grid of a model's image tokens over a picture, if its configuration describes one."""

from __future__ import annotations

from typing import Any

from PIL import Image

from phasebench.errors import InputError
from phasebench.models.loading import GREY, LoadedModel

WIDE_SIZE = (448, 224)
"""Size of a wide picture, which a processor that makes squares has to crop or stretch."""
QUERIES = ("qformer_config", "perceiver_config", "latent_query_num", "query_length")
"""Settings of models in which each image token attends to the whole picture."""


def patches(loaded: LoadedModel, tokens: int) -> dict[str, Any] | None:
    """The grid of ``tokens`` image tokens as ``{rows, columns, fit}``, in row order; None if there is none.

    A configuration may declare the grid as ``token_grid``. Otherwise the vision encoder has a square of
    patches, and one token may stand for k x k of them. Other models have no such grid: their tokens are
    queries that attend to the whole picture, or belong to several crops, or their number depends on the
    picture's size. ``fit`` says how a picture is made square, as in CSS: ``cover`` crops, ``fill`` stretches.
    """
    config = loaded.model.config
    fit = _fit(getattr(loaded.processor, "image_processor", None))
    grid = getattr(config, "token_grid", None)
    if grid is not None:
        rows, columns = grid
        return {"rows": rows, "columns": columns, "fit": fit} if rows * columns == tokens else None
    vision = getattr(config, "vision_config", None)
    size, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    side = round(tokens**0.5)
    if not (isinstance(size, int) and isinstance(patch, int)) or side * side != tokens:
        return None
    if side == 0 or (size // patch) % side or any(hasattr(config, name) for name in QUERIES):
        return None
    return {"rows": side, "columns": side, "fit": fit} if _makes_squares(loaded) else None


def _makes_squares(loaded: LoadedModel) -> bool:
    """Whether the processor turns a wide picture into one square; otherwise the grid depends on the picture.

    The configuration does not show this: some have an image size and a patch size although the grid varies.
    """
    try:
        pixels = loaded.inputs([Image.new("RGB", WIDE_SIZE, GREY)])["pixel_values"]
    except (InputError, KeyError):
        return False
    return pixels.dim() == 4 and len(pixels) == 1 and pixels.shape[2] == pixels.shape[3]


def _fit(processor: Any) -> str:
    return "cover" if getattr(processor, "do_center_crop", None) else "fill"
