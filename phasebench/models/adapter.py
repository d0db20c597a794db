"""The one adapter: where in a transformers model the layers, attentions, final norm and head are.

Nothing here knows a model's name. Parts are found by what transformers declares (``get_decoder``,
``get_output_embeddings``, ``_can_record_outputs``) and by watching one forward pass go by.

Shapes: B batch, N positions, D width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.models.shadow import shadowed_attention

Inputs = Mapping[str, Tensor]
PLACEHOLDERS = ("image_token_id", "image_token_index")


@dataclass
class Anatomy:
    """The parts of one model that the pass reads.

    ``outputs`` maps an attention module to its output projection; ``eager`` maps it to its model
    file's own eager attention function.
    """

    model: Any
    layers: list[nn.Module]
    final_norm: nn.Module
    head: nn.Module
    image_token: int
    outputs: dict[nn.Module, nn.Module] = field(default_factory=dict)

    def eager(self, attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
        """The ``eager_attention_forward`` of the file that defines ``attention``."""
        module = sys.modules[type(attention).__module__]
        function: Callable[..., tuple[Tensor, Tensor]] = module.eager_attention_forward
        return function


def dissect(model: Any, inputs: Inputs) -> Anatomy:
    """Find the parts of ``model`` by one forward pass over ``inputs``.

    Raises:
        InputError: a part cannot be found, so that the model cannot be measured; it says which.
    """
    layers = find_layers(unwrapped_decoder(model))
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        raise InputError(f"{_name(model)}: no output head (get_output_embeddings() is None)")
    trace = _Trace(layers)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.callback(trace.remove)
        trace.watch(unwrapped_decoder(model), head)
        stack.enter_context(shadowed_attention(trace.see_attention))
        try:
            model(**inputs, use_cache=False)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{_name(model)} refuses its own processor's inputs (see --prompt): {error}"
            ) from error
    if trace.final_norm is None:
        raise InputError(f"{_name(model)}: no norm is called between the last layer and the output head")
    return Anatomy(model, layers, trace.final_norm, head, image_token_id(model), trace.outputs)


def unwrapped_decoder(model: Any) -> nn.Module:
    """The module that holds the language model's layers, without a ForCausalLM around it."""
    decoder = model.get_decoder()
    while hasattr(decoder, "get_decoder") and decoder.get_decoder() is not decoder:
        decoder = decoder.get_decoder()
    return cast("nn.Module", decoder)


def find_layers(decoder: nn.Module) -> list[nn.Module]:
    """The decoder's blocks in order: of the declared class, else the longest ModuleList.

    Raises:
        InputError: there is neither.
    """
    declared = getattr(decoder, "_can_record_outputs", None) or {}
    kind = declared.get("hidden_states")
    kind = getattr(kind, "target_class", kind)
    if isinstance(kind, type):
        layers = [module for module in decoder.modules() if isinstance(module, kind)]
    else:
        lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
        layers = list(max(lists, key=len, default=[]))
    if not layers:
        raise InputError(f"{_name(decoder)}: no decoder layers found")
    return layers


def image_token_id(model: Any) -> int:
    """The placeholder id that the configuration declares for image positions.

    Raises:
        InputError: it declares none.
    """
    for name in PLACEHOLDERS:
        value = getattr(model.config, name, None)
        if value is not None:
            return int(value)
    raise InputError(f"{_name(model)}: the configuration names no image token ({' or '.join(PLACEHOLDERS)})")


def projector_of(model: Any) -> nn.Module:
    """The module that maps vision features into the language model's space.

    Raises:
        InputError: no submodule is called like one.
    """
    for ending in ("multi_modal_projector", "language_projection", "connector", "aligner", "merger"):
        for name, module in model.named_modules():
            if name.rpartition(".")[2] == ending:
                return cast("nn.Module", module)
    raise InputError(f"{_name(model)}: no projector found; run without --controls")


class _Trace:
    """What one watched pass shows: each attention's output projection and the final norm."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self.layers = layers
        self.outputs: dict[nn.Module, nn.Module] = {}
        self.final_norm: nn.Module | None = None
        self._owners = {module: layer for layer in layers for module in layer.modules()}
        self._waiting: nn.Module | None = None
        self._after_last = False
        self._handles: list[Any] = []

    def watch(self, decoder: nn.Module, head: nn.Module) -> None:
        self._hook(self.layers[-1], self._left_last)
        self._hook(head, self._reached_head)
        for module in decoder.modules():
            if module not in self._owners and not any(module.children()):
                self._hook(module, self._saw_outside)
            elif module in self._owners:
                self._handles.append(module.register_forward_pre_hook(self._saw_inside))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def see_attention(self, attention: nn.Module, *_: Any) -> None:
        self._waiting = attention if attention in self._owners else None

    def _hook(self, module: nn.Module, function: Callable[..., None]) -> None:
        self._handles.append(module.register_forward_hook(function))

    def _saw_inside(self, module: nn.Module, _: Any) -> None:
        if self._waiting is not None and module is not self._waiting:
            self.outputs[self._waiting] = module
            self._waiting = None

    def _left_last(self, *_: Any) -> None:
        self._after_last = True

    def _saw_outside(self, module: nn.Module, *_: Any) -> None:
        if self._after_last:
            self.final_norm = module

    def _reached_head(self, *_: Any) -> None:
        self._after_last = False


def _name(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
