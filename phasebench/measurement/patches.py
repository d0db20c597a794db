"""How a model's image tokens lie over a picture, where its configuration says so."""

from __future__ import annotations

from typing import Any

from PIL import Image

from phasebench.errors import InputError
from phasebench.models.loading import GREY, LoadedModel

WIDE_SIZE = (448, 224)
"""Of a picture that a processor has to crop or to stretch if it makes squares."""
QUERIES = ("qformer_config", "perceiver_config", "latent_query_num", "query_length")
"""Settings of models whose image tokens each look at the whole picture."""


def patches(loaded: LoadedModel, tokens: int) -> dict[str, Any] | None:
    """The grid of ``tokens`` as ``{rows, columns, fit}``, row by row; None where there is none.

    A configuration may declare it as ``token_grid``. Otherwise the vision encoder sees a square of patches,
    and one token may stand for k x k of them. Any other number of tokens is no such grid: queries that look
    at the whole picture, several crops, sizes that follow the picture.
    ``fit`` is how a picture is made square, in CSS's words: ``cover`` crops, ``fill`` stretches.
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
    """Whether the vision encoder sees a wide picture as one square: otherwise the grid follows the picture.

    The configuration cannot answer this: some have a size and a patch although the grid varies.
    """
    try:
        pixels = loaded.inputs([Image.new("RGB", WIDE_SIZE, GREY)])["pixel_values"]
    except (InputError, KeyError):
        return False
    return pixels.dim() == 4 and len(pixels) == 1 and pixels.shape[2] == pixels.shape[3]


def _fit(processor: Any) -> str:
    return "cover" if getattr(processor, "do_center_crop", None) else "fill"
