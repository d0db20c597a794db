"""The oracles themselves: the plan of each, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from phasebench.curves import Array
from tests.oracles.plan import HEADS, Attention, Massive, Plan
from tests.oracles.space import LENGTH
from tests.support.synthetic import through

LAST = 12
"""L of most oracles: small, and divisible into four phases of different lengths."""
BOUNDARIES = (2, 5, 10)
"""Where the phases end by default; depth 10 / 12 = 0.83 is the paper's for phase III."""
PAPER = (3, 10, 33)
"""The paper's boundaries, of 40 layers."""
TURNS = (0.0, 0.4, 0.2, 0.6, 0.3)
"""inter at layer 0, at the boundaries and at the last layer."""
FIRST = (0, 1, 2, 3, 4)
"""The positions of the paper's first five tokens."""


def zigzag(boundaries: Sequence[int], last: int = LAST, turns: Sequence[float] = TURNS) -> Array:
    """Straight lines between ``turns`` at layer 0, the boundaries and the last layer [last + 1]."""
    ends = (0, *boundaries, last)
    return through(dict(zip(ends, turns, strict=True)), last)


def plan(inter: Array, **changes: Any) -> Plan:
    """A plan with this inter, flat intra curves above it, uniform attention, and no decoded words."""
    size = len(inter)
    defaults = {
        "inter": inter,
        "intra_visual": np.full(size, 0.85),
        "intra_text": np.full(size, 0.8),
        "decoded_words": (0,) * size,
        "attention": Attention.uniform(size - 1),
    }
    return Plan(**{**defaults, **changes})


def four_phases(boundaries: Sequence[int] = BOUNDARIES, last: int = LAST) -> Plan:
    """Rise, fall, rise, fall with chosen boundaries; intra curves of their own shapes (Figs. 1 and 3)."""
    return plan(
        zigzag(boundaries, last),
        intra_visual=through({0: 0.75, last // 2: 0.9, last: 0.8}, last),
        intra_text=through({0: 0.9, last // 3: 0.75, last: 0.8}, last),
    )


def phases(turns: Sequence[float], boundaries: Sequence[int]) -> Plan:
    """Any number of phases."""
    return plan(zigzag(boundaries, LAST, turns))


def flat(level: float = 0.35) -> Plan:
    """The same inter at every layer: there are no phases."""
    return plan(np.full(LAST + 1, level))


def decoy(inter: Array | None = None) -> Plan:
    """Four phases in both intra curves; a rise in inter, or the curve that is passed."""
    wave = zigzag(BOUNDARIES, LAST, (0.6, 0.8, 0.7, 0.9, 0.75))
    rise = through({0: 0.1, LAST: 0.45}, LAST)
    return plan(rise if inter is None else inter, intra_visual=wave, intra_text=wave)


def attention(
    positions: Sequence[int], start: int, *, share: float = 0.7, before: float = 0.3, last: int = LAST
) -> Attention:
    """``positions`` together get ``share`` of attention from layer ``start`` (1..L) on, else ``before``."""
    logits = np.zeros((last, HEADS, LENGTH))
    shares = np.where(np.arange(1, last + 1) >= start, share, before)
    odds = shares / (1 - shares) * (LENGTH - len(positions)) / len(positions)
    logits[:, :, list(positions)] = np.log(odds)[:, None, None]
    return Attention(logits, np.ones(last))


def sinks(positions: Sequence[int] = FIRST, start: int = 6, **shares: float) -> Plan:
    """Attention gathers on ``positions``, strongly from layer ``start`` on (Fig. 4)."""
    return plan(zigzag(BOUNDARIES), attention=attention(positions, start, **shares))  # type: ignore[arg-type]


def saliency(strength: Array) -> Plan:
    """The contributions of attention follow ``strength`` [L] (Fig. 4: accumulates, then drops)."""
    return plan(zigzag(BOUNDARIES), attention=replace(Attention.uniform(LAST), strength=strength))


def opposed(positions: Sequence[int] = (0, 1)) -> Plan:
    """Two heads whose outputs are opposite and cancel before the norm; the first prefers ``positions``.

    Norms of each head's own part, or weights averaged over heads, would give quite other shares; and the sum
    over all positions is exactly 0.
    """
    logits = np.zeros((LAST, HEADS, LENGTH))
    logits[:, 0, list(positions)] = 1.0
    return plan(zigzag(BOUNDARIES), attention=Attention(logits, np.ones(LAST), (1.0, -1.0)))


def massive(positions: tuple[int, ...], layer: int) -> Plan:
    """States at ``positions`` grow thirtyfold at ``layer`` and do not change after it.

    Most attention is on them, but their values are as much smaller: weights would call them sinks,
    norms do not (Kobayashi et al. 2020).
    """
    logits = np.zeros((LAST, HEADS, LENGTH))
    logits[layer:, :, list(positions)] = 3.0
    on_massive = Attention(logits, np.ones(LAST))
    return replace(four_phases(), attention=on_massive, massive=Massive(positions, layer))


def short_image(size: float = 0.05) -> Plan:
    """Visual states a twentieth as long as text states: compared with all positions, every word is a sink."""
    weak = replace(Attention.uniform(LAST), strength=np.full(LAST, size))
    return replace(four_phases(), attention=weak, visual_size=size)


def lens(peak: int = 10) -> Plan:
    """Recall rises to 7 of 8 words at layer ``peak`` and falls again (Fig. 5)."""
    return plan(zigzag(BOUNDARIES), decoded_words=words_by_layer(peak, LAST))


def words_by_layer(peak: int, last: int) -> tuple[int, ...]:
    """Words decoded at each layer [last + 1]: none, 7 at the peak alone, 2 at the end."""
    rounded = np.floor(through({0: 0.0, peak: 7.0, last: 2.0}, last) + 1e-9)
    return tuple(rounded.astype(int).tolist())


def paper() -> Plan:
    """The model that the paper describes, in 40 layers: all six findings hold."""
    on_first = attention(FIRST, 20, last=40)
    strength = through({0: 0.2, 20: 0.4, 35: 1.0, 37: 0.3, 40: 0.2}, 40)[1:]
    return replace(
        four_phases(PAPER, 40),
        decoded_words=words_by_layer(PAPER[-1], 40),
        attention=replace(on_first, strength=strength),
    )


CATALOGUE: dict[str, Plan] = {
    "four phases": four_phases(),
    "as in the paper": paper(),
    "two phases": phases((0.1, 0.6, 0.2), (7,)),
    "three phases": phases((0.1, 0.5, 0.2, 0.6), (4, 8)),
    "flat": flat(),
    "decoy": decoy(),
    "sinks": sinks(),
    "scattered sinks": sinks((2, 9, 18), 4),
    "opposed heads": opposed(),
    "short image": short_image(),
    "massive text": massive((0,), 4),
    "massive image": massive((3, 8), 7),
    "lens": lens(),
}
