"""Image tokens as a grid over the picture, only where the configuration says that they are one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import LlamaConfig

from phasebench.measurement.patches import patches
from phasebench.models.converters.minigpt_v2 import full_config
from phasebench.models.loading import LoadedModel


class FixedShapeModel(LoadedModel):
    """A model whose processor gives pixels of one shape."""

    shape: tuple[int, ...] = (1, 3, 8, 8)

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        assert [image.width > image.height for image in images] == [True]
        return {"pixel_values": torch.zeros(self.shape)}


def loaded(size: Any, patch: Any, *, crop: bool | None = None, **config: Any) -> FixedShapeModel:
    vision = SimpleNamespace(image_size=size, patch_size=patch)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision, **config))
    processor = SimpleNamespace(image_processor=SimpleNamespace(do_center_crop=crop))
    return FixedShapeModel("m", model, processor, "", "")


@pytest.mark.parametrize(("size", "patch", "tokens", "side"), [(336, 14, 576, 24), (896, 14, 256, 16)])
def test_a_square_of_patches_or_of_pooled_ones(size: int, patch: int, tokens: int, side: int) -> None:
    assert patches(loaded(size, patch), tokens) == {"rows": side, "columns": side, "fit": "fill"}


@pytest.mark.parametrize(("size", "patch", "tokens"), [(224, 14, 32), (336, 14, 2880), (980, 14, 64)])
def test_a_number_of_tokens_that_no_pooling_gives_is_no_grid(size: int, patch: int, tokens: int) -> None:
    assert patches(loaded(size, patch), tokens) is None


@pytest.mark.parametrize(
    ("shape", "what"),
    [((1, 3, 8, 16), "one rectangle"), ((128, 588), "patches in a row"), ((1, 5, 3, 8, 8), "crops")],
)
def test_a_grid_that_follows_the_picture_is_not_known(shape: tuple[int, ...], what: str) -> None:
    """GLM-4V's configuration has a size and a patch, and any square number of tokens may be 18 x 32 or so."""
    model = loaded(336, 14)
    model.shape = shape
    assert patches(model, 576) is None, what


def test_a_grid_that_is_no_square_is_read_from_the_configuration() -> None:
    model = loaded(448, 14, token_grid=[32, 8])
    assert patches(model, 256) == {"rows": 32, "columns": 8, "fit": "fill"}
    assert patches(model, 255) is None


def test_four_patches_of_a_row_are_one_token_of_minigpt_v2() -> None:
    """Of 32 rows of 32 patches, four of a row are joined; 16 x 16 would be a square of 2 x 2."""
    config = full_config(LlamaConfig(), 5)
    model: Any = SimpleNamespace(model=SimpleNamespace(config=config), processor=None)
    grid = patches(model, config.image_seq_length)
    assert grid is not None
    assert (grid["rows"], grid["columns"]) == (32, 8)


def test_queries_have_no_grid() -> None:
    assert patches(loaded(224, 14, latent_query_num=64), 64) is None


def test_a_configuration_without_sizes_has_no_grid() -> None:
    assert patches(loaded(None, None), 64) is None


def test_a_processor_that_crops_fits_by_cover() -> None:
    grid = patches(loaded(336, 14, crop=True), 576)
    assert grid is not None
    assert grid["fit"] == "cover"


def test_bundled_llava_has_a_grid_and_instructblip_has_none(
    tiny_llava: LoadedModel, tiny_instructblip: LoadedModel
) -> None:
    assert patches(tiny_llava, 16) is not None
    assert patches(tiny_instructblip, 4) is None
