"""The computed weights of the vision encoder and the projector, and the pictures that they read.

A picture carries real numbers: in each patch of P x P pixels one number per pixel, in 24 bits over red,
green and blue. The patch convolution, which is linear, reads them; grey (127) is 0. Nothing else in the
encoder changes them: vectors (z, -z) enter the layer norm with the norm that it gives, the blocks add 0,
and the projector undoes its GELU by gelu(z) - gelu(-z) = z.

Shapes: V patches, S numbers of a patch (``Space.patch_numbers``), P pixels per side of a patch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from phasebench.curves import Array
from tests.oracles.language import set_weight, turn
from tests.oracles.plan import Picture, Plan
from tests.oracles.space import GRID, MARK, NOUNS, SMALL_SIZE, VISUAL, Space

PATCH = 12
"""P: 144 numbers per patch."""
SIDE = GRID * PATCH
DIGITS = np.array([65536, 256, 1])
GREY = 127 * int(DIGITS.sum())
"""The code of grey, which stands for 0."""
RANGE = 4.0
"""Numbers from -2 to 2; one step of the code is 2.4e-7."""
STEP = RANGE / 256**3


def draw(picture: Picture) -> Image.Image:
    """The picture as pixels."""
    cos, sin = np.cos(picture.angles) - 1, np.sin(picture.angles)
    nouns = np.array([[float(noun == n) for n in range(len(NOUNS))] for noun in picture.patch_nouns])
    numbers = np.concatenate([np.stack([cos, sin], axis=-1).reshape(VISUAL, -1), nouns], axis=1)
    blank = np.zeros((VISUAL, PATCH * PATCH - numbers.shape[1]))
    codes = np.rint(np.concatenate([numbers, blank], axis=1) / STEP).astype(np.int64) + GREY
    pixels = (codes[..., None] // DIGITS % 256).astype(np.uint8)
    grid = pixels.reshape(GRID, GRID, PATCH, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(grid.reshape(SIDE, SIDE, 3))


def _sizes(space: Space) -> tuple[float, float, float]:
    """Sizes of a patch's position, of one stored pair and of a word in z [S], whose norm is sqrt(S)."""
    half = float(np.sqrt(space.patch_numbers / 2))
    return half, half / float(np.sqrt(space.layers + 1)), float(np.sqrt(space.patch_numbers)) * SMALL_SIZE


def fill_encoder(encoder: Any, space: Space) -> None:
    """Write the weights of CLIP's vision encoder in place."""
    embeddings = encoder.embeddings
    position, stored, word = _sizes(space)
    amounts = np.repeat([stored, word], [2 * (space.layers + 1), len(NOUNS)])
    kernel = np.zeros((space.patch_numbers, 3, PATCH * PATCH))
    for number, amount in enumerate(amounts):
        kernel[VISUAL + number, :, number] = amount * 255 * STEP * DIGITS
    set_weight(embeddings.patch_embedding, _mirrored(kernel).reshape(-1, 3, PATCH, PATCH))
    offsets = np.zeros((VISUAL + 1, space.patch_numbers))  # the first is the class token's: unused
    offsets[:, VISUAL:] = -amounts * GREY * STEP
    offsets[:, VISUAL : VISUAL + 2 * (space.layers + 1) : 2] += stored  # the picture has cos - 1
    offsets[1:, :VISUAL] = position * np.eye(VISUAL)
    set_weight(embeddings.position_embedding, _mirrored(offsets.T).T)
    for layer in encoder.encoder.layers:
        set_weight(layer.self_attn.out_proj, np.zeros((space.width, space.width)))
        set_weight(layer.mlp.fc2, np.zeros(tuple(layer.mlp.fc2.weight.shape)))


def fill_projector(projector: Any, plan: Plan, space: Space) -> None:
    """Write the projector's weights in place: visual states at layer 0 from a patch's numbers."""
    position, stored, word = _sizes(space)
    reads = np.zeros((space.width, space.patch_numbers))
    own_directions, angles = reads[:, :VISUAL], reads[:, VISUAL : VISUAL + 2 * (space.layers + 1)]
    own_directions[space.visual] = np.eye(VISUAL) * plan.visual_own[0] / position
    own_directions[space.mark_visual] = np.sqrt(MARK) / position
    own_directions[space.no_word] = plan.no_word(0) * SMALL_SIZE / position
    angles[space.store] = np.eye(2 * (space.layers + 1)) * space.stored / stored
    angles[space.plane, :2] = turn(plan.visual_common[0] / stored, plan.angle[0])
    reads[space.words, -len(NOUNS) :] = np.eye(len(NOUNS)) * SMALL_SIZE / word
    set_weight(projector.linear_1, np.eye(space.width))
    set_weight(projector.linear_2, _mirrored((reads * space.scale * plan.visual_size).T).T)


def _mirrored(halves: Array) -> Array:
    """(z, -z) along the first axis."""
    return np.concatenate([halves, -halves])
