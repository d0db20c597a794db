"""Watching one forward pass: attention modules and their output projections, states, the final norm.

Shapes: B batch, N positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasebench.models.anatomy.attention_watch import OutputHook


@dataclass(frozen=True)
class Site:
    """One attention module of the language model.

    Attributes:
        layer: the number of its block, from 1.
        output: its output projection.
        gated: whether there is an operation, such as a gate, between attention and output projection.
    """

    layer: int
    output: nn.Module
    gated: bool


class ProjectionCall(NamedTuple):
    """One call of a module with a weight: the module, its input, its output's width, the dtypes of both."""

    module: nn.Module
    input: Tensor
    output_width: int
    dtypes: tuple[torch.dtype, torch.dtype]


def input_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The states [B, N, D] in the arguments of a block's call."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def output_states(result: Any) -> Tensor:
    """The states [B, N, D] in a block's result: the result itself, or its first item if it is a tuple."""
    states: Tensor = result[0] if isinstance(result, tuple) else result
    return states


class Trace:
    """Records one forward pass: each attention's output projection, the shapes of the states, the final norm.

    Attributes:
        sites: attention modules inside the layers, in the order of their calls.
        tail: modules called between the last layer and the head.
        shapes: the shapes of the first layer's input and of every layer's output.
        width: the width of the output projections' results; 0 if there are none.
        dtypes: the dtypes of attentions' outputs and of what their output projections take and return.
        has_cross_attention: whether some attention has keys at other positions than its queries.
        first_broken: the first layer with NaN or infinity at a real position, 0 for the first layer's input;
            None if there is none.
    """

    def __init__(self, layers: list[nn.Module], real_BN: Tensor | None = None) -> None:
        self.layers = layers
        self.real_BN = real_BN
        self.first_broken: int | None = None
        self.sites: dict[nn.Module, Site] = {}
        self.tail: list[nn.Module] = []
        self.shapes: list[torch.Size] = []
        self.width = 0
        self.dtypes: set[torch.dtype] = set()
        self.has_cross_attention = False
        self._layer_numbers = {module: n for n, layer in enumerate(layers, 1) for module in layer.modules()}
        self._decoder_modules: set[nn.Module] = set()
        self._pending: tuple[nn.Module, Tensor, list[ProjectionCall]] | None = None
        """The last attention, its output, and the calls since; its output projection is still to be found."""
        self._in_tail = False
        self._handles: list[Any] = []

    def has_length(self, positions: int) -> bool:
        """Whether the layers' states have this number of positions, on any axis between batch and width."""
        return bool(self.shapes) and positions in self.shapes[0][1:-1]

    @property
    def has_one_stream(self) -> bool:
        """Whether every layer takes and returns states [B, N, D], of the width that attention adds to."""
        shape = self.shapes[0]
        return len(set(self.shapes)) == 1 and len(shape) == 3 and self.width in (0, shape[-1])

    def watch(self, decoder: nn.Module, head: nn.Module | None) -> None:
        """Hook every module of ``decoder``, and ``head``, which ends the tail."""
        self._decoder_modules = set(decoder.modules())
        self._keep(self.layers[0].register_forward_pre_hook(self._before_first_layer, with_kwargs=True))
        for layer in self.layers:
            self._keep(layer.register_forward_hook(self._after_layer))
        for module in decoder.modules():
            if module in self._layer_numbers:
                self._keep(module.register_forward_hook(self._after_module_in_layer))
            elif not any(module.children()) and not isinstance(module, nn.Dropout):
                self._keep(module.register_forward_hook(self._after_module_outside))
        if head is not None:
            self._keep(head.register_forward_pre_hook(self._before_head))

    def remove(self) -> None:
        """Remove all hooks."""
        self._resolve_pending()
        for handle in self._handles:
            handle.remove()

    def watch_attention_call(
        self, attention: nn.Module, query: Tensor, key: Tensor, *_: Any
    ) -> OutputHook | None:
        """The watcher for ``attention_watch.watch_attention``."""
        if attention not in self._decoder_modules:
            return None
        self.has_cross_attention |= query.shape[2] != key.shape[2]
        if attention not in self._layer_numbers:
            return None

        def output_hook(output: Tensor) -> Tensor:
            self._resolve_pending()
            self._pending = attention, output, []
            return output

        return output_hook

    def _keep(self, handle: Any) -> None:
        self._handles.append(handle)

    def _before_first_layer(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._resolve_pending()
        self._record_states(input_states(args, kwargs))

    def _after_layer(self, layer: nn.Module, _: Any, result: Any) -> None:
        self._resolve_pending()
        self._record_states(output_states(result))
        self._in_tail = layer is self.layers[-1]

    def _record_states(self, states: Tensor) -> None:
        real = states
        if self.real_BN is not None and states.shape[:2] == self.real_BN.shape:
            real = states[self.real_BN.to(states.device)]  # padding may be anything
        if self.first_broken is None and not bool(real.isfinite().all()):
            self.first_broken = len(self.shapes)
        self.shapes.append(states.shape)

    def _after_module_in_layer(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        maps_tensor = args and isinstance(args[0], Tensor) and isinstance(result, Tensor)
        if self._pending and maps_tensor and _is_projection(module):
            dtypes = args[0].dtype, result.dtype
            self._pending[2].append(ProjectionCall(module, args[0], result.shape[-1], dtypes))

    def _resolve_pending(self) -> None:
        """Find the pending attention's output projection among the modules with a weight called since.

        It is the last one inside the attention's own module, behind norms and gates. If the module has none,
        as in BERT's, it is the first one called in the block afterwards. Modules inside an adapter's wrapper
        count as part of the wrapper.
        """
        if self._pending is None:
            return
        (attention, output, calls), self._pending = self._pending, None
        own = set(attention.modules())
        wrapped = {part for call in calls for part in call.module.modules() if part is not call.module}
        calls = [call for call in calls if call.module not in wrapped]
        candidates = [call for call in calls if call.module in own][-1:] or calls[:1]
        for call in candidates:
            if call.input.numel() == output.numel():
                self.width = call.output_width
                self.dtypes |= {output.dtype, *call.dtypes}
                is_equal = torch.equal(call.input.flatten(), output.flatten())
                self.sites[attention] = Site(self._layer_numbers[attention], call.module, gated=not is_equal)

    def _after_module_outside(self, module: nn.Module, *_: Any) -> None:
        if self._in_tail:
            self.tail.append(module)

    def _before_head(self, *_: Any) -> None:
        self._in_tail = False


def _is_projection(module: nn.Module) -> bool:
    """Whether a module is one product: a leaf with parameters, or a layer that an adapter of peft wraps."""
    is_leaf = not any(module.children()) and any(True for _ in module.parameters(recurse=False))
    return is_leaf or hasattr(module, "base_layer")
