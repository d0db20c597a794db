"""The slow way to every number of the pass: a Llama decoder written out in float64, one image at a time.

Nothing is taken from phasebench or from transformers' modelling code but the weights and what enters the
first block. Loops stand where the formulas of the paper and of Kobayashi et al. (2020) have sums.

Shapes: N positions, D width, H heads, E head width, L blocks, P visual positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from phasebench.curves import Array

SINK = 10.0
"""docs/similarity.md: a state whose norm exceeds so many times its modality's median norm."""
FEW = 5
"""Section 3.2: 'the first five tokens'."""


@dataclass
class Seen:
    """What one image's pass consists of.

    Attributes:
        visual: positions of the image; ``text``: all others.
        states: [N, D] at layers 0..L, before the final norm.
        norms: a_j [N] of the last text token at layers 1..L.
        residue: at layers 1..L the largest element of the summed contributions minus the attention's output.
        tokens: the lens' token ids [P] at layers 0..L.
        logits: the logits of those tokens [P].
    """

    visual: list[int]
    text: list[int]
    states: list[Array] = field(default_factory=list)
    norms: list[Array] = field(default_factory=list)
    residue: list[float] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    logits: list[list[float]] = field(default_factory=list)


class Reference:
    """A Llama language model in float64, from the weights of a stock ``decoder`` and its output ``head``."""

    def __init__(self, decoder: Any, head: Any) -> None:
        self.config = decoder.config
        self.weights = {name: value.double().numpy() for name, value in decoder.state_dict().items()}
        self.head_VD = head.weight.double().numpy()

    def run(self, entering_ND: Array, visual_N: Sequence[bool]) -> Seen:
        """Every number of an image whose unpadded states enter the first block."""
        visual, text = ([n for n, is_visual in enumerate(visual_N) if is_visual == kind] for kind in (1, 0))
        seen = Seen(visual, text)
        state_ND = entering_ND
        self._keep(seen, state_ND)
        for layer in range(self.config.num_hidden_layers):
            state_ND = self._block(f"layers.{layer}", state_ND, seen)
            self._keep(seen, state_ND)
        return seen

    def logits(self, state_ND: Array) -> Array:
        """Final norm and output head [N, vocabulary]."""
        return np.asarray(self._norm(state_ND, "norm") @ self.head_VD.T)

    def _keep(self, seen: Seen, state_ND: Array) -> None:
        seen.states.append(state_ND)
        logits_NV = self.logits(state_ND)
        seen.tokens.append([int(logits_NV[n].argmax()) for n in seen.visual])
        seen.logits.append([float(logits_NV[n].max()) for n in seen.visual])

    def _block(self, name: str, state_ND: Array, seen: Seen) -> Array:
        state_ND = state_ND + self._attention(name, self._norm(state_ND, f"{name}.input_layernorm"), seen)
        normed_ND = self._norm(state_ND, f"{name}.post_attention_layernorm")
        gate = self._linear(normed_ND, f"{name}.mlp.gate_proj")
        gated = gate / (1 + np.exp(-gate)) * self._linear(normed_ND, f"{name}.mlp.up_proj")
        return state_ND + self._linear(gated, f"{name}.mlp.down_proj")

    def _attention(self, name: str, normed_ND: Array, seen: Seen) -> Array:
        """The block's output [N, D]; on the way the contributions to the last text token."""
        length, last = len(normed_ND), seen.text[-1]
        parts_HNND = np.stack([self._head(name, normed_ND, head) for head in self._heads()])
        bias_D = self.weights.get(f"{name}.self_attn.o_proj.bias", np.zeros(normed_ND.shape[1]))
        result_ND = np.tile(bias_D, (length, 1))
        added_ND = np.zeros_like(normed_ND)
        for head, t, j in itertools.product(self._heads(), range(length), range(length)):
            result_ND[t] += parts_HNND[head, t, j]
        for head, j in itertools.product(self._heads(), range(length)):
            added_ND[j] += parts_HNND[head, last, j]
        seen.norms.append(np.array([np.sqrt((row * row).sum()) for row in added_ND]))
        seen.residue.append(float(np.abs(added_ND.sum(0) - (result_ND[last] - bias_D)).max()))
        return result_ND

    def _heads(self) -> range:
        return range(self.config.num_attention_heads)

    def _head(self, name: str, normed_ND: Array, head: int) -> Array:
        """alpha_h(t, j) W_O^h v_h(j) of every t [N] and j [N], as [N, N, D]; 0 where j follows t."""
        width, length = self.config.head_dim, len(normed_ND)
        shared = head // (self.config.num_attention_heads // self.config.num_key_value_heads)
        query_NE, key_NE, value_NE = (
            self._linear(normed_ND, f"{name}.self_attn.{part}_proj")[:, _columns(which, width)]
            for part, which in (("q", head), ("k", shared), ("v", shared))
        )
        query_NE, key_NE = (self._rotated(given) for given in (query_NE, key_NE))
        output_DE = self.weights[f"{name}.self_attn.o_proj.weight"][:, _columns(head, width)]
        parts_NND = np.zeros((length, length, normed_ND.shape[1]))
        for t in range(length):
            powers = [np.exp(query_NE[t] @ key_NE[j] / np.sqrt(width)) for j in range(t + 1)]
            for j in range(t + 1):
                parts_NND[t, j] = powers[j] / sum(powers) * (output_DE @ value_NE[j])
        return parts_NND

    def _rotated(self, given_NE: Array) -> Array:
        """Rotary embedding (Su et al. 2021): coordinates k and k + E/2 are a plane with a pace of its own."""
        half = given_NE.shape[1] // 2
        turned_NE = np.empty_like(given_NE)
        for n in range(len(given_NE)):
            angle = n * self.config.rope_parameters["rope_theta"] ** (-np.arange(half) / half)
            first, second = given_NE[n, :half], given_NE[n, half:]
            turned_NE[n, :half] = first * np.cos(angle) - second * np.sin(angle)
            turned_NE[n, half:] = second * np.cos(angle) + first * np.sin(angle)
        return turned_NE

    def _linear(self, given: Array, name: str) -> Array:
        bias = self.weights.get(f"{name}.bias", 0.0)
        return np.asarray(given @ self.weights[f"{name}.weight"].T + bias)

    def _norm(self, state_ND: Array, name: str) -> Array:
        size = np.sqrt((state_ND**2).mean(-1, keepdims=True) + self.config.rms_norm_eps)
        return np.asarray(state_ND / size * self.weights[f"{name}.weight"])


def _columns(head: int, width: int) -> slice:
    return slice(head * width, (head + 1) * width)


def similarity(state_ND: Array, visual: list[int], text: list[int]) -> dict[str, float]:
    """Paper eq. 1, pair by pair; within a modality over i != j; once more without sinks."""
    norms = [float(np.sqrt((row * row).sum())) for row in state_ND]
    sinks = [n for who in (visual, text) for n in who if norms[n] > SINK * _median([norms[m] for m in who])]
    unit_ND = state_ND / np.array(norms)[:, None]
    found = _pairwise(unit_ND, visual, text)
    clean = _pairwise(unit_ND, [n for n in visual if n not in sinks], [n for n in text if n not in sinks])
    return {**found, **{f"{name}_nosink": value for name, value in clean.items()}, "sinks": float(len(sinks))}


def _median(values: list[float]) -> float:
    """The lower one of the two in the middle, as torch has it."""
    return sorted(values)[(len(values) - 1) // 2]


def _pairwise(unit_ND: Array, visual: list[int], text: list[int]) -> dict[str, float]:
    def mean(pairs: list[tuple[int, int]]) -> float:
        return float(sum(unit_ND[i] @ unit_ND[j] for i, j in pairs) / len(pairs))

    return {
        "inter": mean(list(itertools.product(visual, text))),
        "intra_visual": mean(list(itertools.permutations(visual, 2))),
        "intra_text": mean(list(itertools.permutations(text, 2))),
    }


def attention(norm_N: Array, visual: list[int], text: list[int]) -> dict[str, float]:
    """Shares of the total, position by position (docs/attention.md)."""
    counted = [n for n in range(len(norm_N)) if n <= text[-1]]
    first, others = counted[:FEW], counted[FEW:]
    total = sum(norm_N[n] for n in counted)
    chosen = {
        "share_first5": first,
        "share_first5_visual": visual[:FEW],
        "share_visual": visual,
        "share_text": text,
        "share_self": text[-1:],
    }
    shares = {name: float(sum(norm_N[n] for n in who) / total) for name, who in chosen.items()}
    ratio = sum(norm_N[n] for n in first) / len(first) / (sum(norm_N[n] for n in others) / len(others))
    return {**shares, "ratio_first5": float(ratio), "total": float(total)}
