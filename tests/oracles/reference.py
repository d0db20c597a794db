"""The slow way to every number of the pass: a Llama decoder written out in float64, one image at a time.

Only the weights and the input of the first block come from transformers, and nothing from phasebench. The
sums in the formulas of the paper and of Kobayashi et al. (2020) are loops.

Shapes: N positions, D width, H heads, E head width, L blocks, P visual positions.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from phasebench.curves import Array

SINK_RATIO = 10.0
"""docs/similarity.md: a state whose norm exceeds so many times its modality's median norm."""
FIRST_POSITIONS = 5
"""Section 3.2: 'the first five tokens'."""


@dataclass
class ReferencePass:
    """The numbers of one image's pass.

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

    def run(self, entering_ND: Array, visual_N: Sequence[bool]) -> ReferencePass:
        """Every number of an image whose unpadded states enter the first block."""
        visual, text = ([n for n, is_visual in enumerate(visual_N) if is_visual == kind] for kind in (1, 0))
        numbers = ReferencePass(visual, text)
        state_ND = entering_ND
        self._keep(numbers, state_ND)
        for layer in range(self.config.num_hidden_layers):
            state_ND = self._block(f"layers.{layer}", state_ND, numbers)
            self._keep(numbers, state_ND)
        return numbers

    def logits(self, state_ND: Array) -> Array:
        """Final norm and output head [N, vocabulary]."""
        return np.asarray(self._norm(state_ND, "norm") @ self.head_VD.T)

    def _keep(self, numbers: ReferencePass, state_ND: Array) -> None:
        numbers.states.append(state_ND)
        logits_NV = self.logits(state_ND)
        numbers.tokens.append([int(logits_NV[n].argmax()) for n in numbers.visual])
        numbers.logits.append([float(logits_NV[n].max()) for n in numbers.visual])

    def _block(self, name: str, state_ND: Array, numbers: ReferencePass) -> Array:
        state_ND = state_ND + self._attention(name, self._norm(state_ND, f"{name}.input_layernorm"), numbers)
        normed_ND = self._norm(state_ND, f"{name}.post_attention_layernorm")
        gate = self._linear(normed_ND, f"{name}.mlp.gate_proj")
        gated = gate / (1 + np.exp(-gate)) * self._linear(normed_ND, f"{name}.mlp.up_proj")
        return state_ND + self._linear(gated, f"{name}.mlp.down_proj")

    def _attention(self, name: str, normed_ND: Array, numbers: ReferencePass) -> Array:
        """The block's output [N, D]; on the way the contributions to the last text token."""
        length, last = len(normed_ND), numbers.text[-1]
        parts_HNND = np.stack([self._head(name, normed_ND, head) for head in self._heads()])
        bias_D = self.weights.get(f"{name}.self_attn.o_proj.bias", np.zeros(normed_ND.shape[1]))
        result_ND = np.tile(bias_D, (length, 1))
        contribution_ND = np.zeros_like(normed_ND)
        for head, t, j in itertools.product(self._heads(), range(length), range(length)):
            result_ND[t] += parts_HNND[head, t, j]
        for head, j in itertools.product(self._heads(), range(length)):
            contribution_ND[j] += parts_HNND[head, last, j]
        numbers.norms.append(np.array([np.sqrt((row * row).sum()) for row in contribution_ND]))
        numbers.residue.append(float(np.abs(contribution_ND.sum(0) - (result_ND[last] - bias_D)).max()))
        return result_ND

    def _heads(self) -> range:
        return range(self.config.num_attention_heads)

    def _head(self, name: str, normed_ND: Array, head: int) -> Array:
        """alpha_h(t, j) W_O^h v_h(j) of every t [N] and j [N], as [N, N, D]; 0 where j follows t."""
        width, length = self.config.head_dim, len(normed_ND)
        shared = head // (self.config.num_attention_heads // self.config.num_key_value_heads)
        query_NE, key_NE, value_NE = (
            self._linear(normed_ND, f"{name}.self_attn.{part}_proj")[:, _columns(number, width)]
            for part, number in (("q", head), ("k", shared), ("v", shared))
        )
        query_NE, key_NE = (self._rotated(states_NE) for states_NE in (query_NE, key_NE))
        output_DE = self.weights[f"{name}.self_attn.o_proj.weight"][:, _columns(head, width)]
        parts_NND = np.zeros((length, length, normed_ND.shape[1]))
        for t in range(length):
            powers = [np.exp(query_NE[t] @ key_NE[j] / np.sqrt(width)) for j in range(t + 1)]
            for j in range(t + 1):
                parts_NND[t, j] = powers[j] / sum(powers) * (output_DE @ value_NE[j])
        return parts_NND

    def _rotated(self, states_NE: Array) -> Array:
        """Rotary embedding (Su et al. 2021): coordinates k and k + E/2 turn at a frequency of their own."""
        half = states_NE.shape[1] // 2
        turned_NE = np.empty_like(states_NE)
        for n in range(len(states_NE)):
            angle = n * self.config.rope_parameters["rope_theta"] ** (-np.arange(half) / half)
            first, second = states_NE[n, :half], states_NE[n, half:]
            turned_NE[n, :half] = first * np.cos(angle) - second * np.sin(angle)
            turned_NE[n, half:] = second * np.cos(angle) + first * np.sin(angle)
        return turned_NE

    def _linear(self, states: Array, name: str) -> Array:
        bias = self.weights.get(f"{name}.bias", 0.0)
        return np.asarray(states @ self.weights[f"{name}.weight"].T + bias)

    def _norm(self, state_ND: Array, name: str) -> Array:
        size = np.sqrt((state_ND**2).mean(-1, keepdims=True) + self.config.rms_norm_eps)
        return np.asarray(state_ND / size * self.weights[f"{name}.weight"])


def _columns(head: int, width: int) -> slice:
    return slice(head * width, (head + 1) * width)


def similarity(state_ND: Array, visual: list[int], text: list[int]) -> dict[str, float]:
    """Paper eq. 1, pair by pair; within a modality over i != j; once more without sinks."""
    norms = [float(np.sqrt((row * row).sum())) for row in state_ND]
    sinks = [
        n
        for modality in (visual, text)
        for n in modality
        if norms[n] > SINK_RATIO * statistics.median([norms[m] for m in modality])
    ]
    unit_ND = state_ND / np.array(norms)[:, None]
    cosines = _pairwise(unit_ND, visual, text)
    sinkless = _pairwise(unit_ND, [n for n in visual if n not in sinks], [n for n in text if n not in sinks])
    return {
        **cosines,
        **{f"{name}_nosink": value for name, value in sinkless.items()},
        "sinks": float(len(sinks)),
    }


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
    first, rest = counted[:FIRST_POSITIONS], counted[FIRST_POSITIONS:]
    total = sum(norm_N[n] for n in counted)
    positions = {
        "share_first5": first,
        "share_first5_visual": visual[:FIRST_POSITIONS],
        "share_visual": visual,
        "share_text": text,
        "share_self": text[-1:],
    }
    shares = {name: float(sum(norm_N[n] for n in numbers) / total) for name, numbers in positions.items()}
    ratio = sum(norm_N[n] for n in first) / len(first) / (sum(norm_N[n] for n in rest) / len(rest))
    return {**shares, "ratio_first5": float(ratio), "total": float(total)}
