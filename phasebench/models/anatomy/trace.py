"""Watching one forward pass go by: attentions and their output projections, states, final norm.

Shapes: B batch, N positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.models.anatomy.shadow import After


@dataclass(frozen=True)
class Site:
    """One attention module of the language model.

    Attributes:
        layer: the block that it belongs to, from 1.
        output: its output projection.
        gated: something stands between the attention and its output projection.
    """

    layer: int
    output: nn.Module
    gated: bool


Seen = tuple[nn.Module, Tensor, int]
"""A module with a weight that was called, what it was given, and the width of what it gave."""


def entering(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The states that a block is called with."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def leaving(result: Any) -> Tensor:
    """The states that a block gives, alone or before other things."""
    states: Tensor = result[0] if isinstance(result, tuple) else result
    return states


class Trace:
    """What one watched pass shows: each attention's output projection, the states, the final norm.

    Attributes:
        sites: attention modules under the layers, in the order of their calls.
        tail: modules called between the last layer and the head.
        shapes: of what enters the first layer and of what every layer gives.
        width: of what the output projections add to the states; 0 where none is seen.
        crosses: an attention's keys are not its queries' positions.
        broken: the first layer that gives NaN or infinity at a real position, 0 for what enters the
            first; None if none does.
    """

    def __init__(self, layers: list[nn.Module], real_BN: Tensor | None = None) -> None:
        self.layers = layers
        self.real_BN = real_BN
        self.broken: int | None = None
        self.sites: dict[nn.Module, Site] = {}
        self.tail: list[nn.Module] = []
        self.shapes: list[torch.Size] = []
        self.width = 0
        self.crosses = False
        self._owners = {module: n for n, layer in enumerate(layers, 1) for module in layer.modules()}
        self._inside: set[nn.Module] = set()
        self._open: tuple[nn.Module, Tensor, list[Seen]] | None = None
        self._after_last = False
        self._handles: list[Any] = []

    def has(self, positions: int) -> bool:
        """Whether the layers' states have so many positions, wherever an axis of streams is."""
        return bool(self.shapes) and positions in self.shapes[0][1:-1]

    @property
    def one_stream(self) -> bool:
        """Whether every layer takes and gives states [B, N, D], of the width that attention adds to."""
        shape = self.shapes[0]
        return len(set(self.shapes)) == 1 and len(shape) == 3 and self.width in (0, shape[-1])

    def watch(self, decoder: nn.Module, head: nn.Module | None) -> None:
        """Hook every module of ``decoder``, and ``head``, where the tail ends."""
        self._inside = set(decoder.modules())
        self._hook(self.layers[0].register_forward_pre_hook(self._enter, with_kwargs=True))
        for layer in self.layers:
            self._hook(layer.register_forward_hook(self._leave))
        for module in decoder.modules():
            if module in self._owners:
                self._hook(module.register_forward_hook(self._saw_inside))
            elif not any(module.children()) and not isinstance(module, nn.Dropout):
                self._hook(module.register_forward_hook(self._saw_outside))
        if head is not None:
            self._hook(head.register_forward_pre_hook(self._reached_head))

    def remove(self) -> None:
        """Take the hooks away again."""
        self._settle()
        for handle in self._handles:
            handle.remove()

    def see_attention(self, attention: nn.Module, query: Tensor, key: Tensor, *_: Any) -> After | None:
        """The watcher of ``shadowed_attention``."""
        if attention not in self._inside:
            return None
        self.crosses |= query.shape[2] != key.shape[2]
        if attention not in self._owners:
            return None

        def after(output: Tensor) -> Tensor:
            self._settle()
            self._open = attention, output, []
            return output

        return after

    def _hook(self, handle: Any) -> None:
        self._handles.append(handle)

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._settle()
        self._see(entering(args, kwargs))

    def _leave(self, layer: nn.Module, _: Any, result: Any) -> None:
        self._settle()
        self._see(leaving(result))
        self._after_last = layer is self.layers[-1]

    def _see(self, states: Tensor) -> None:
        real = states
        if self.real_BN is not None and states.shape[:2] == self.real_BN.shape:
            real = states[self.real_BN.to(states.device)]  # padding may be anything
        if self.broken is None and not bool(real.isfinite().all()):
            self.broken = len(self.shapes)
        self.shapes.append(states.shape)

    def _saw_inside(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        takes_and_gives = args and isinstance(args[0], Tensor) and isinstance(result, Tensor)
        if self._open and takes_and_gives and _has_weight(module):
            self._open[2].append((module, args[0], result.shape[-1]))

    def _settle(self) -> None:
        """Close the attention that is open: find its output projection among the weights called since.

        It is the last one inside the attention's own module, behind norms and gates; where the module has
        none, as in BERT's, the first one called in the block after it. What an adapter wraps is part of it.
        """
        if self._open is None:
            return
        (attention, output, seen), self._open = self._open, None
        own = set(attention.modules())
        wrapped = {part for call in seen for part in call[0].modules() if part is not call[0]}
        seen = [call for call in seen if call[0] not in wrapped]
        candidates = [call for call in seen if call[0] in own][-1:] or seen[:1]
        for module, given, width in candidates:
            if given.numel() == output.numel():
                self.width = width
                same = torch.equal(given.flatten(), output.flatten())
                self.sites[attention] = Site(self._owners[attention], module, gated=not same)

    def _saw_outside(self, module: nn.Module, *_: Any) -> None:
        if self._after_last:
            self.tail.append(module)

    def _reached_head(self, *_: Any) -> None:
        self._after_last = False


def _has_weight(module: nn.Module) -> bool:
    """Whether it is one product: a leaf with parameters, or a layer that an adapter of peft wraps."""
    leaf = not any(module.children()) and any(True for _ in module.parameters(recurse=False))
    return leaf or hasattr(module, "base_layer")
