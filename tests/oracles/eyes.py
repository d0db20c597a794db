"""The vision tower's and projector's weights, by arithmetic, and the pictures that they read.

A picture carries real numbers: in each patch of P x P pixels one number a pixel, in 24 bits over red,
green and blue. The patch convolution, which is linear, reads them; grey (127) is 0. Nothing else in the tower
does anything: the layer norm meets vectors (z, -z) of the norm that it would give them, the encoder's
outputs are 0, and the projector undoes its GELU by gelu(z) - gelu(-z) = z.

Shapes: V patches, S numbers that are seen (``Space.seen``), P pixels a side of a patch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from phasebench.curves import Array
from tests.oracles.language import set_weight, turn
from tests.oracles.plan import Picture, Plan
from tests.oracles.space import GRID, MARK, NOUNS, VISUAL, WHISPER, Space

PATCH = 12
"""P: 144 numbers a patch."""
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
    nouns = np.array([[float(noun == n) for n in range(len(NOUNS))] for noun in picture.carried])
    numbers = np.concatenate([np.stack([cos, sin], axis=-1).reshape(VISUAL, -1), nouns], axis=1)
    blank = np.zeros((VISUAL, PATCH * PATCH - numbers.shape[1]))
    codes = np.rint(np.concatenate([numbers, blank], axis=1) / STEP).astype(np.int64) + GREY
    pixels = (codes[..., None] // DIGITS % 256).astype(np.uint8)
    grid = pixels.reshape(GRID, GRID, PATCH, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(grid.reshape(SIDE, SIDE, 3))


def _sizes(space: Space) -> tuple[float, float, float]:
    """Sizes of a patch's place, of one stored pair and of a word in z [S], whose norm is sqrt(S)."""
    half = float(np.sqrt(space.seen / 2))
    return half, half / float(np.sqrt(space.layers + 1)), float(np.sqrt(space.seen)) * WHISPER


def fill_tower(tower: Any, space: Space) -> None:
    """Write the CLIP vision tower's weights in place."""
    embeddings = tower.embeddings
    place, stored, word = _sizes(space)
    amounts = np.repeat([stored, word], [2 * (space.layers + 1), len(NOUNS)])
    kernel = np.zeros((space.seen, 3, PATCH * PATCH))
    for number, amount in enumerate(amounts):
        kernel[VISUAL + number, :, number] = amount * 255 * STEP * DIGITS
    set_weight(embeddings.patch_embedding, _mirrored(kernel).reshape(-1, 3, PATCH, PATCH))
    offsets = np.zeros((VISUAL + 1, space.seen))  # the first is the class token's, which nobody reads
    offsets[:, VISUAL:] = -amounts * GREY * STEP
    offsets[:, VISUAL : VISUAL + 2 * (space.layers + 1) : 2] += stored  # cos is carried as cos - 1
    offsets[1:, :VISUAL] = place * np.eye(VISUAL)
    set_weight(embeddings.position_embedding, _mirrored(offsets.T).T)
    for layer in tower.encoder.layers:
        set_weight(layer.self_attn.out_proj, np.zeros((space.width, space.width)))
        set_weight(layer.mlp.fc2, np.zeros(tuple(layer.mlp.fc2.weight.shape)))


def fill_projector(projector: Any, plan: Plan, space: Space) -> None:
    """Write the projector's weights in place: visual states at layer 0 from what the tower saw."""
    place, stored, word = _sizes(space)
    reads = np.zeros((space.width, space.seen))
    placed, angles = reads[:, :VISUAL], reads[:, VISUAL : VISUAL + 2 * (space.layers + 1)]
    placed[space.visual] = np.eye(VISUAL) * plan.visual_own[0] / place
    placed[space.mark_visual] = np.sqrt(MARK) / place
    placed[space.quiet] = plan.quiet(0) * WHISPER / place
    angles[space.store] = np.eye(2 * (space.layers + 1)) * space.stored / stored
    angles[space.plane, :2] = turn(plan.visual_common[0] / stored, plan.angle[0])
    reads[space.words, -len(NOUNS) :] = np.eye(len(NOUNS)) * WHISPER / word
    set_weight(projector.linear_1, np.eye(space.width))
    set_weight(projector.linear_2, _mirrored((reads * space.scale * plan.visual_size).T).T)


def _mirrored(halves: Array) -> Array:
    """(z, -z) along the first axis."""
    return np.concatenate([halves, -halves])
