"""An oracle's plan: the curves, chosen freely, and what follows from them.

Shapes: L + 1 layers (0 is what enters the first block), H heads, N positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from phasebench.curves import Array
from tests.oracles.space import LENGTH, MARK, NOUNS, STORED, VISUAL, modality_positions

HEADS = 2
SLOTS = 8
"""Different words that a picture carries, each in V / SLOTS patches."""


@dataclass(frozen=True)
class Attention:
    """The attention of the last text token.

    Attributes:
        logits: [L, H, N] of each position before the softmax (the last position attends to all).
        strength: [L] the size of a fully attended position's contribution, relative to ``SMALL_SIZE`` x norm.
        signs: [H] direction in which each head writes; opposite ones cancel before the norm is taken.
    """

    logits: Array
    strength: Array
    signs: tuple[float, ...] = (0.5, 0.5)

    @classmethod
    def uniform(cls, layers: int) -> Attention:
        """The same attention on every position."""
        return cls(np.zeros((layers, HEADS, LENGTH)), np.ones(layers))


@dataclass(frozen=True)
class Massive:
    """Positions whose states grow at a layer and stay as they are from there on.

    Attributes:
        positions: in the sequence.
        layer: block (1..L) whose output has them first.
        size: what is added, relative to an ordinary state's norm.
    """

    positions: tuple[int, ...]
    layer: int
    size: float = 30.0


@dataclass(frozen=True)
class Plan:
    """An oracle.

    Attributes:
        inter, intra_visual, intra_text: [L + 1] mean cosines (paper eq. 1, without self-pairs).
        decoded_words: [L + 1] how many of a picture's ``SLOTS`` words are decoded at each layer.
        attention: of the last text token (paper section 3.2).
        massive: sinks in the states; none by default.
        visual_size: norm of visual states over that of text states. It changes no cosine, but comparisons of
            norms across modalities.
    """

    inter: Array
    intra_visual: Array
    intra_text: Array
    decoded_words: tuple[int, ...]
    attention: Attention
    massive: Massive = field(default=Massive((), 1))
    visual_size: float = 1.0

    def __post_init__(self) -> None:
        if np.any(np.abs(self.inter) > self.reach):
            raise ValueError("inter cannot exceed what both modalities have in common")

    @property
    def layers(self) -> int:
        """L."""
        return len(self.inter) - 1

    @property
    def visual_common(self) -> Array:
        """Size of the plane's part in visual states [L + 1]: what marks and store leave of intra."""
        return np.asarray(np.sqrt(self.intra_visual - MARK - STORED))

    @property
    def text_common(self) -> Array:
        """Size of the plane's part in text states [L + 1]."""
        return np.asarray(np.sqrt(self.intra_text - MARK))

    @property
    def visual_own(self) -> Array:
        """Size of a visual state's own direction [L + 1]: what all states share is exactly intra."""
        return np.asarray(np.sqrt(1 - self.intra_visual))

    @property
    def text_own(self) -> Array:
        """Size of a text state's own direction [L + 1]."""
        return np.asarray(np.sqrt(1 - self.intra_text))

    @property
    def reach(self) -> Array:
        """The largest inter possible [L + 1]; the angle does the rest."""
        return self.visual_common * self.text_common

    @property
    def angle(self) -> Array:
        """Between the modalities' common parts [L + 1], in radians."""
        return np.asarray(np.arccos(self.inter / self.reach))

    def no_word(self, layer: int) -> Array:
        """1.0 at visual positions [V] that decode to no word at ``layer``."""
        return np.asarray(np.arange(VISUAL) % SLOTS >= self.decoded_words[layer], dtype=np.float64)

    def own(self, layer: int) -> Array:
        """Size of every position's own direction [N] in the output of ``layer``; massive ones keep it."""
        layers = np.full(LENGTH, layer)
        layers[list(self.massive.positions)] = min(layer, self.massive.layer)
        visual = np.isin(np.arange(LENGTH), modality_positions(visual=True))
        return np.where(visual, self.visual_own[layers], self.text_own[layers])

    def norm(self, layer: int) -> Array:
        """Norm of every position's state [N] in the output of ``layer``, relative to an ordinary one."""
        norms = np.ones(LENGTH)
        if layer >= self.massive.layer:
            norms[list(self.massive.positions)] = np.hypot(1, self.massive.size)
        return norms


@dataclass(frozen=True)
class Picture:
    """The numbers and words of one picture.

    Attributes:
        angles: [V, L + 1] added to the angle at each patch and layer, in radians: image-to-image noise.
        nouns: the noun in each of the ``SLOTS`` slots, as its number; -1 for none.
    """

    angles: Array
    nouns: tuple[int, ...]

    @property
    def patch_nouns(self) -> list[int]:
        """The noun of every patch [V]."""
        return [self.nouns[patch % SLOTS] for patch in range(VISUAL)]


def pictures(
    plan: Plan, count: int, *, noise: float = 0.0, missing_words: float = 0.0, seed: int = 0
) -> list[Picture]:
    """Pictures whose inter is the plan's plus normal noise of size ``noise``, independent in every layer.

    Picture n's words are nouns 4 n .. 4 n + 7 (in a circle), so that it shares half of them with the next;
    a share ``missing_words`` of them is in the captions but not in the picture.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        inter = plan.inter + noise * rng.standard_normal(plan.layers + 1)
        angles = np.arccos(inter / plan.reach) - plan.angle
        captioned = (4 * number + np.arange(SLOTS)) % len(NOUNS)
        nouns = np.where(rng.random(SLOTS) < missing_words, -1, captioned)
        drawn.append(Picture(np.tile(angles, (VISUAL, 1)), tuple(nouns.tolist())))
    return drawn


def caption(number: int) -> str:
    """All words of picture ``number``, in the picture or not."""
    return " ".join(NOUNS[(4 * number + slot) % len(NOUNS)] for slot in range(SLOTS))
