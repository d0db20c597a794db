"""What an oracle is to show: the curves, chosen freely, and what follows from them.

Shapes: L + 1 layers (0 is what enters the first block), H heads, N positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from phasebench.curves import Array
from tests.oracles.space import LENGTH, MARK, NOUNS, STORED, VISUAL, places

HEADS = 2
SLOTS = 8
"""Different words that a picture carries, each in V / SLOTS patches."""


@dataclass(frozen=True)
class Attention:
    """What the last text token attends to.

    Attributes:
        logits: [L, H, N] of each position before the softmax (causal: all of them are seen by the last).
        strength: [L] the size of what a fully attended position adds, relative to ``WHISPER`` x state.
        signs: [H] direction in which each head writes; opposite ones cancel before the norm is taken.
    """

    logits: Array
    strength: Array
    signs: tuple[float, ...] = (0.5, 0.5)

    @classmethod
    def uniform(cls, layers: int) -> Attention:
        """Every position alike."""
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
        heard: [L + 1] how many of a picture's ``SLOTS`` words are decoded at each layer.
        attention: of the last text token (paper section 3.2).
        massive: sinks in the states; none by default.
        visual_size: norm of visual states over that of text states. No cosine knows it, but whoever compares
            norms across modalities does.
    """

    inter: Array
    intra_visual: Array
    intra_text: Array
    heard: tuple[int, ...]
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

    def quiet(self, layer: int) -> Array:
        """1.0 at visual positions [V] that decode to no word at ``layer``."""
        return np.asarray(np.arange(VISUAL) % SLOTS >= self.heard[layer], dtype=np.float64)

    def own(self, layer: int) -> Array:
        """Size of every position's own direction [N] in what leaves ``layer``; massive ones stand still."""
        at = np.full(LENGTH, layer)
        at[list(self.massive.positions)] = min(layer, self.massive.layer)
        visual = np.isin(np.arange(LENGTH), places(visual=True))
        return np.where(visual, self.visual_own[at], self.text_own[at])

    def norm(self, layer: int) -> Array:
        """Norm of every position's state [N] in what leaves ``layer``, relative to an ordinary one."""
        norms = np.ones(LENGTH)
        if layer >= self.massive.layer:
            norms[list(self.massive.positions)] = np.hypot(1, self.massive.size)
        return norms


@dataclass(frozen=True)
class Picture:
    """What one picture carries.

    Attributes:
        angles: [V, L + 1] added to the angle at each patch and layer, in radians: image-to-image noise.
        nouns: the noun in each of the ``SLOTS`` slots, as its number; -1 for none.
    """

    angles: Array
    nouns: tuple[int, ...]

    @property
    def carried(self) -> list[int]:
        """The noun of every patch [V]."""
        return [self.nouns[patch % SLOTS] for patch in range(VISUAL)]


def pictures(
    plan: Plan, count: int, *, noise: float = 0.0, silent: float = 0.0, seed: int = 0
) -> list[Picture]:
    """Pictures whose inter is the plan's plus normal noise of size ``noise``, independent in every layer.

    Picture n's words are nouns 4 n .. 4 n + 7 (in a circle), so that it shares half of them with the next;
    a share ``silent`` of them is in the captions but not in the picture.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        wanted = plan.inter + noise * rng.standard_normal(plan.layers + 1)
        angles = np.arccos(wanted / plan.reach) - plan.angle
        said = (4 * number + np.arange(SLOTS)) % len(NOUNS)
        shown = np.where(rng.random(SLOTS) < silent, -1, said)
        found.append(Picture(np.tile(angles, (VISUAL, 1)), tuple(shown.tolist())))
    return found


def caption(number: int) -> str:
    """All words of picture ``number``, shown or not."""
    return " ".join(NOUNS[(4 * number + slot) % len(NOUNS)] for slot in range(SLOTS))
