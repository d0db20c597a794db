"""Controls: the same curves for a blank image, an untrained projector, and text in place of the image.

The shape of a curve may come from the language model alone; only a difference from the control says something
about the image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement.batches import PassRunner
from phasebench.measurement.passes import Row, watch
from phasebench.measurement.positions import Positions
from phasebench.measurement.row_key import row_names
from phasebench.models.anatomy.adapter import Anatomy
from phasebench.models.anatomy.parts import find_projector, has_compute_dtype, precision, sequence_model
from phasebench.models.loading import GREY, LoadedModel

CONTROL_IMAGES = 24
"""Number of images measured for each optional control; more images hardly change its means."""


def blank(passes: PassRunner, size: tuple[int, int]) -> Row:
    """The row of one grey image of ``size`` (width, height)."""
    return passes.rows_of_images([Image.new("RGB", size, GREY)])[0]


def check_controls(loaded: LoadedModel, anatomy: Anatomy) -> None:
    """Check, before anything is measured, that the optional controls are possible.

    Raises:
        InputError: the projector is not found, offloaded or quantised, or the model has no image token.
    """
    weights = list(find_projector(anatomy.model).parameters())
    if any(weight.is_meta for weight in weights):
        raise InputError(f"{loaded.name}: its projector is offloaded", remedy="controls")
    if not all(map(has_compute_dtype, weights)):
        raise InputError(f"{loaded.name}: its projector is quantised", remedy="controls")
    if anatomy.image_token is None:
        raise InputError(f"{loaded.name}: no image token to replace by a caption", remedy="controls")


def untrained_projector(passes: PassRunner, samples: Sequence[Sample], *, seed: int) -> Iterator[Row]:
    """Rows of the first images with a re-initialised projector, whose output has no trained meaning."""
    with reinitialised(find_projector(passes.anatomy.model), seed):
        for sample in samples[:CONTROL_IMAGES]:
            yield from passes.rows_of_images([sample.open()], f"projector {seed}")


@contextmanager
def reinitialised(module: nn.Module, seed: int) -> Iterator[None]:
    """Give every parameter of ``module`` a new random value within the ``with`` block."""
    originals = [parameter.detach().clone() for parameter in module.parameters()]
    generator = torch.Generator().manual_seed(seed)
    try:
        for name, parameter in module.named_parameters():
            fresh = torch.zeros(parameter.shape)
            if parameter.ndim > 1:
                fresh.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            elif not name.endswith("bias"):
                fresh.fill_(1.0)  # the weight of a norm
            parameter.copy_(fresh)
        yield
    finally:
        for parameter, value in zip(module.parameters(), originals, strict=True):
            parameter.copy_(value)


def text_against_text(passes: PassRunner, samples: Sequence[Sample], *, seed: int) -> Iterator[Row]:
    """Rows of the first images with a caption's tokens in place of the image: text compared with text."""
    loaded, anatomy = passes.loaded, passes.anatomy
    decoder, image_token = sequence_model(anatomy.model), cast("int", anatomy.image_token)
    rng = random.Random(f"text/{seed}")
    for sample in samples[:CONTROL_IMAGES]:
        ids_N = loaded.inputs([sample.open()])["input_ids"][0]
        caption = rng.choice([caption for caption in sample.captions if caption.strip()])
        positions, ids_BN = _with_caption(loaded, ids_N, caption, image_token)
        forward = partial(
            decoder, input_ids=ids_BN, use_cache=False, **_full_attention(anatomy.model, ids_BN)
        )
        names = row_names("text", {"input_ids": ids_BN, "visual": positions.visual_BN})
        rows = passes.store.read_batch(names)
        if rows is None:
            rows = passes.keep(names, watch(anatomy, positions, forward, **passes.choices))
        yield from rows


OPTIONAL_CONTROLS: dict[str, Callable[..., Iterator[Row]]] = {
    "projector": untrained_projector,
    "text": text_against_text,
}
"""The controls on request by name; each is called with the passes, the samples and a ``seed``."""


def _full_attention(model: nn.Module, ids_BN: Tensor) -> dict[str, Tensor]:
    """The mask with which PaliGemma's prompt positions attend to all others; its decoder alone makes none.

    In later models ``use_bidirectional_attention`` is a word, and their decoders act on it themselves.
    """
    if getattr(sequence_model(model).config, "use_bidirectional_attention", None) is not True:
        return {}
    shape = (1, 1, ids_BN.shape[1], ids_BN.shape[1])
    return {"attention_mask": torch.zeros(shape, dtype=precision(model), device=ids_BN.device)}


def _with_caption(
    loaded: LoadedModel, ids_N: Tensor, caption: str, image_token: int
) -> tuple[Positions, Tensor]:
    """The positions and ids of a prompt in which a caption's tokens replace the image tokens."""
    tokens = loaded.processor.tokenizer(" " + caption, add_special_tokens=False)["input_ids"]
    caption_C = torch.tensor(tokens, dtype=ids_N.dtype, device=ids_N.device)
    start = int((ids_N == image_token).nonzero()[0, 0])
    before, after = ids_N[:start], ids_N[start:]
    after = after[after != image_token]
    ids_BN = torch.cat([before, caption_C, after])[None]
    visual_BN = torch.zeros_like(ids_BN, dtype=torch.bool)
    visual_BN[:, start : start + len(caption_C)] = True
    last_B = (~visual_BN).nonzero()[-1:, 1]
    return Positions(visual_BN, ~visual_BN, last_B), ids_BN
