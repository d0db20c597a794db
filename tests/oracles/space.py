"""The coordinates of a state: where each part lies and how large it is.

Every state y is a unit vector times sqrt(D), so that RMSNorm leaves it as it is and every weight is a plain
linear map. Its coordinates:

=============  ==============================================================================
``plane``      2: the part that a modality has in common, at an angle for visual positions
``marks``      1 each: 'visual' and 'text'; they switch the modality's neurons on
``visual``     V: each visual position's own direction
``text``       T: each text position's own direction
``store``      2 a layer: cos and sin of the picture's own angle at that layer (image-to-image noise)
``words``      1 a noun: the word that a visual position carries
``no_word``    1: on while the position decodes to no caption word
``scratch``    1: what attention writes; the MLP of the same layer removes it again
``massive``    1: what makes a state a sink
=============  ==============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phasebench.curves import Array

GRID = 4
"""Patches a side."""
VISUAL = GRID * GRID
PROMPT = ("USER:", "<image>", "Describe", "the", "image.", "ASSISTANT:")
"""The words of phasebench's default prompt."""
BEFORE = PROMPT.index("<image>")
WRITTEN = tuple(word for word in PROMPT if word != "<image>")
TEXT = len(WRITTEN)
LENGTH = VISUAL + TEXT
NOUNS = (
    "ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay",
    "koi", "lark", "mole", "newt", "owl", "pig", "quail", "rat", "seal", "toad",
)  # fmt: skip
MARK = 0.05
"""Squared share of a mark in its state."""
STORED = 0.05
"""Squared share of all stored angles together in a visual state."""
SMALL_SIZE = 1e-3
"""Size of ``words``, ``no_word`` and ``scratch``: too small (1e-6 squared) to move a cosine by 2e-6."""


@dataclass(frozen=True)
class Space:
    """The coordinates of a model of ``layers`` blocks; single ones are indices, groups are slices."""

    layers: int

    @property
    def plane(self) -> slice:
        return slice(0, 2)

    mark_visual: int = 2
    mark_text: int = 3
    no_word: int = 4
    scratch: int = 5
    massive: int = 6

    @property
    def visual(self) -> slice:
        return _after(7, VISUAL)

    @property
    def text(self) -> slice:
        return _after(self.visual.stop, TEXT)

    @property
    def store(self) -> slice:
        return _after(self.text.stop, 2 * (self.layers + 1))

    @property
    def words(self) -> slice:
        return _after(self.store.stop, len(NOUNS))

    @property
    def patch_numbers(self) -> int:
        """Numbers that the vision encoder reads off a patch: its position, the stored angles, its word."""
        return VISUAL + 2 * (self.layers + 1) + len(NOUNS)

    @property
    def width(self) -> int:
        """D; twice ``patch_numbers``, so that the projector's first map can be the identity on (z, -z)."""
        return 2 * self.patch_numbers

    @property
    def scale(self) -> float:
        """The norm of every state: its root mean square is 1."""
        return float(np.sqrt(self.width))

    @property
    def stored(self) -> float:
        """Size of one layer's stored (cos, sin), relative to the state."""
        return float(np.sqrt(STORED / (self.layers + 1)))

    def axis(self, index: int) -> Array:
        """The unit vector [D] of one coordinate."""
        vector = np.zeros(self.width)
        vector[index] = 1.0
        return vector

    def angle_axes(self, layer: int) -> tuple[Array, Array]:
        """Unit vectors [D] of the stored cos and sin of ``layer``."""
        start = self.store.start + 2 * layer
        return self.axis(start), self.axis(start + 1)


def _after(start: int, size: int) -> slice:
    return slice(start, start + size)


def modality_positions(*, visual: bool) -> npt.NDArray[np.intp]:
    """Positions in the sequence [V or T] of one modality."""
    inside = (np.arange(LENGTH) >= BEFORE) & (np.arange(LENGTH) < BEFORE + VISUAL)
    return np.flatnonzero(inside if visual else ~inside)
