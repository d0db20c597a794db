"""The language model's weights, computed so that each block moves every state to its place in the plan.

An MLP neuron is down * silu(gate . x) * (up . x). The gate reads a modality's mark: 1 at its positions and
exactly 0 at the others, where silu is 0, so that an MLP is one linear map for visual states and another for
text states. The maps keep the norm, so that RMSNorm does nothing but undo ``visual_size``.

Shapes: D coordinates, I neurons, H heads, E head width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from phasebench.curves import Array
from tests.oracles.plan import HEADS, Plan
from tests.oracles.space import MARK, NOUNS, SMALL_SIZE, TEXT, VISUAL, Space, modality_positions

HEAD_WIDTH = 8
NEURONS = VISUAL + TEXT + 8
"""I: one for every own direction, the plane, ``scratch``, ``no_word`` and ``massive``; some are spare."""
THETA = 1e16
"""Base of the rotary embedding: the slowest pair turns by less than 1e-10 over the prompt."""
SLOWEST = (HEAD_WIDTH // 2 - 1, HEAD_WIDTH - 1)
"""The two coordinates of that pair, one a head."""


@dataclass(frozen=True)
class Neuron:
    """down * silu(gate . x) * (up . x): three vectors [D], ``down`` already over silu(1)."""

    gate: Array
    up: Array
    down: Array


class Blocks:
    """The weights of an oracle's decoder blocks."""

    def __init__(self, plan: Plan, space: Space) -> None:
        self.plan = plan
        self.space = space

    def fill(self, layers: nn.ModuleList) -> None:
        """Write every block's weights in place."""
        for number, layer in enumerate(layers, 1):
            self._attention(number, layer.self_attn)
            neurons = [*self._visual(number), *self._text(number)]
            spare = [np.zeros(self.space.width)] * (NEURONS - len(neurons))
            for name in ("gate", "up", "down"):
                matrix = np.stack([getattr(neuron, name) for neuron in neurons] + spare)
                set_weight(getattr(layer.mlp, f"{name}_proj"), matrix.T if name == "down" else matrix)

    def _visual(self, layer: int) -> list[Neuron]:
        """The neurons that move visual states in block ``layer``."""
        plan, space = self.plan, self.space
        gate = self._gate(layer, visual=True)
        before, after = plan.visual_own[layer - 1 : layer + 1]
        own = [space.axis(index) for index in _indices(space.visual)]
        turned = turn(plan.visual_common[layer] / space.stored, plan.angle[layer])
        target = turned @ np.stack(space.angle_axes(layer))
        plane = [space.axis(index) for index in _indices(space.plane)]
        no_word = (plan.no_word(layer) - plan.no_word(layer - 1)) @ np.stack(own) * SMALL_SIZE / before
        neurons = [
            *(_neuron(gate, target[k] - plane[k], plane[k]) for k in range(2)),
            *(_neuron(gate, axis * (after / before - 1), axis) for axis in own),
            _neuron(gate, no_word, space.axis(space.no_word)),
            *self._common(layer, gate, visual=True),
        ]
        return [replace(neuron, down=neuron.down * plan.visual_size) for neuron in neurons]

    def _text(self, layer: int) -> list[Neuron]:
        """The neurons that move text states in block ``layer``: two sizes change, no direction does."""
        plan, space = self.plan, self.space
        gate = self._gate(layer, visual=False)
        own = plan.text_own[layer] / plan.text_own[layer - 1] - 1
        common = plan.text_common[layer] / plan.text_common[layer - 1] - 1
        axis = space.axis(space.plane.start)
        return [
            _neuron(gate, axis * common, axis),
            *(_neuron(gate, space.axis(i) * own, space.axis(i)) for i in _indices(space.text)),
            *self._common(layer, gate, visual=False),
        ]

    def _common(self, layer: int, gate: Array, *, visual: bool) -> list[Neuron]:
        """The neurons that remove what attention wrote, and that make states massive."""
        scratch, massive = (self.space.axis(i) for i in (self.space.scratch, self.space.massive))
        grown = np.zeros(self.space.width)
        if layer == self.plan.massive.layer:
            grown = self._own_of(self.plan.massive.positions, layer - 1, visual=visual)
        grown = grown * self.plan.massive.size
        return [_neuron(gate, -scratch, scratch), _neuron(gate, grown, massive)]

    def _gate(self, layer: int, *, visual: bool) -> Array:
        """Reads 1 at the modality's positions, 0 at the other's and at those massive by now [D]."""
        mark = self.space.mark_visual if visual else self.space.mark_text
        gate = self.space.axis(mark) / np.sqrt(MARK)
        if layer > self.plan.massive.layer:
            gate = gate - self._own_of(self.plan.massive.positions, layer - 1, visual=visual)
        return gate / self.space.scale

    def _own_of(self, positions: tuple[int, ...], layer: int, *, visual: bool) -> Array:
        """Reads 1 (times the state's norm) at those of the modality's ``positions`` in layer's output [D]."""
        amounts = np.isin(np.arange(len(self.plan.own(layer))), positions) / self.plan.own(layer)
        return self._spread(amounts, visual=visual)

    def _spread(self, amounts: Array, *, visual: bool) -> Array:
        """Amounts at positions [N] as a vector [D] on the own directions of one modality."""
        vector = np.zeros(self.space.width)
        vector[self.space.visual if visual else self.space.text] = amounts[modality_positions(visual=visual)]
        return vector

    def _attention(self, layer: int, attention: Any) -> None:
        """Queries and values read 1 everywhere (1 over the norm where massive), keys the plan's logits."""
        space, plan = self.space, self.plan.attention
        ones = (space.axis(space.mark_visual) + space.axis(space.mark_text)) / np.sqrt(MARK) / space.scale
        query, value = np.zeros((HEADS, HEAD_WIDTH, space.width)), np.zeros((HEAD_WIDTH, space.width))
        key, output = np.zeros((HEAD_WIDTH, space.width)), np.zeros((space.width, HEADS, HEAD_WIDTH))
        value[0] = ones
        for head, channel in enumerate(SLOWEST):
            query[head, channel] = ones * np.sqrt(HEAD_WIDTH)
            key[channel] = self._reader(plan.logits[layer - 1, head], layer - 1)
            output[space.scratch, head, 0] = (
                plan.signs[head] * plan.strength[layer - 1] * SMALL_SIZE * space.scale
            )
        set_weight(attention.q_proj, query.reshape(-1, space.width))
        set_weight(attention.k_proj, key)
        set_weight(attention.v_proj, value)
        set_weight(attention.o_proj, output.reshape(space.width, -1))

    def _reader(self, amounts: Array, layer: int) -> Array:
        """Reads ``amounts`` [N], one a position, off normed states of ``layer``'s output [D]."""
        amounts = amounts * self.plan.norm(layer) / self.plan.own(layer) / self.space.scale
        return self._spread(amounts, visual=True) + self._spread(amounts, visual=False)


def head_weight(space: Space, entries: dict[str, int]) -> Array:
    """The output head [entries, D]: a noun has logit 1, ``no_word`` 2, everything else 0."""
    weight = np.zeros((len(entries), space.width))
    for number, noun in enumerate(NOUNS):
        weight[entries[noun], space.words.start + number] = 1 / (SMALL_SIZE * space.scale)
    weight[entries["nothing"], space.no_word] = 2 / (SMALL_SIZE * space.scale)
    return weight


def embedding_weight(plan: Plan, space: Space, entries: dict[str, int], written: tuple[str, ...]) -> Array:
    """The word embeddings [entries, D], which are the text states at layer 0.

    Words that are not in the prompt have no own direction.
    """
    state = space.axis(space.plane.start) * plan.text_common[0] + space.axis(space.mark_text) * np.sqrt(MARK)
    weight = np.tile(state, (len(entries), 1))
    for position, word in enumerate(written):
        weight[entries[word], space.text.start + position] = plan.text_own[0]
    return np.asarray(weight * space.scale / np.linalg.norm(weight, axis=1, keepdims=True))


def turn(size: float, angle: float) -> Array:
    """Rotation by ``angle`` times ``size`` [2, 2]."""
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def set_weight(module: Any, weight: Array) -> None:
    """Set a weight in place, and its bias to 0 if it has one."""
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()


def _neuron(gate: Array, up: Array, down: Array) -> Neuron:
    return Neuron(gate, up, down * (1 + np.exp(-1)))  # silu(1) = 1 / (1 + exp(-1))


def _indices(part: slice) -> range:
    return range(part.start, part.stop)
