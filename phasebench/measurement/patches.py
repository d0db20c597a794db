"""How a model's image tokens lie over a picture, where its configuration tells."""

from __future__ import annotations

from typing import Any

from PIL import Image

from phasebench.errors import InputError
from phasebench.models.loading import GREY, Loaded

WIDE = (448, 224)
QUERIES = ("qformer_config", "perceiver_config", "latent_query_num", "query_length")
"""Settings of models whose image tokens each look at the whole picture."""


def patches(loaded: Loaded, tokens: int) -> dict[str, Any] | None:
    """``{rows, columns, fit}`` of a grid of ``tokens``, row by row; None where there is none.

    The configuration may tell it as ``token_grid``. Else the vision encoder sees a square of patches, and one
    token may stand for k x k of them. Any other number is no such grid: queries that look at the whole
    picture, several crops, sizes that follow the picture.
    ``fit`` is how a picture comes into the square, in CSS's words: ``cover`` crops, ``fill`` stretches.
    """
    config = loaded.model.config
    fit = _fit(getattr(loaded.processor, "image_processor", None))
    told = getattr(config, "token_grid", None)
    if told is not None:
        rows, columns = told
        return {"rows": rows, "columns": columns, "fit": fit} if rows * columns == tokens else None
    vision = getattr(config, "vision_config", None)
    size, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    side = round(tokens**0.5)
    if not (isinstance(size, int) and isinstance(patch, int)) or side * side != tokens:
        return None
    if side == 0 or (size // patch) % side or any(hasattr(config, name) for name in QUERIES):
        return None
    return {"rows": side, "columns": side, "fit": fit} if _one_square(loaded) else None


def _one_square(loaded: Loaded) -> bool:
    """Whether a wide picture reaches the vision encoder as one square: else the grid follows it, or crops it.

    Configurations do not tell: some name a size and a patch all the same.
    """
    try:
        pixels = loaded.inputs([Image.new("RGB", WIDE, GREY)])["pixel_values"]
    except (InputError, KeyError):
        return False
    return pixels.dim() == 4 and len(pixels) == 1 and pixels.shape[2] == pixels.shape[3]


def _fit(processor: Any) -> str:
    return "cover" if getattr(processor, "do_center_crop", None) else "fill"
