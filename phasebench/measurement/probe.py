"""The probe: hooks that reduce each layer to a few numbers during the forward pass.

Nothing of size layers x positions x width stays in memory: small states are collected, up to
``BUFFER_SIZE`` numbers, so that several layers can be compared at once.

Shapes: B batch, N positions, D width, P visual positions of the batch, L layers, K layers taken together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasebench.catalog import Part
from phasebench.measurement import attention, lens
from phasebench.measurement.positions import Positions
from phasebench.measurement.similarity import similarity
from phasebench.models.anatomy.adapter import Anatomy
from phasebench.models.anatomy.attention_watch import OutputHook, watch_attention
from phasebench.models.anatomy.trace import input_states, output_states

BUFFER_SIZE = 1 << 20
"""States are collected until they have this many numbers in all."""
CurvesByLayer = dict[int, dict[str, Tensor]]
"""Layer -> curve -> its values [B]."""


class _AttentionCall(NamedTuple):
    """The call of an attention whose output projection has not run yet."""

    module: nn.Module
    weighted_BND: Tensor
    attended: Tensor | None
    """The attention's output, if a gate follows; else None."""


class Probe:
    """Collects the curves of one batch; use as ``with probe.watching(): model(**inputs)``.

    Attributes:
        anatomy: the model's parts.
        positions: the batch's visual and text positions.
        norms_by_layer: layer 1..L -> the norms a_j [B, N]; without layers whose attention is not measured.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        positions: Positions,
        *,
        lens_norm: bool = True,
        normed_last_layer: bool = False,
    ) -> None:
        self.anatomy = anatomy
        self.positions = positions
        self.norms_by_layer: dict[int, Tensor] = {}
        self._similarity: list[dict[str, Tensor]] = []
        self._buffer: list[Tensor] = []
        self._norm_of_last = anatomy.final_norm if normed_last_layer else None
        self._layers_seen = 0
        self._call: _AttentionCall | None = None
        self._decoder: lens.Decoder | None = None
        if anatomy.head is not None and "lens" not in anatomy.unmeasured:
            norm = anatomy.final_norm if lens_norm else None
            self._decoder = lens.Decoder(norm, anatomy.head, anatomy.vocabulary, anatomy.masked_vocabulary)

    def curves(self) -> dict[Part, CurvesByLayer]:
        """The curves of each part, after the pass; empty for a part that is not measured."""
        return {"similarity": self.similarity, "attention": self.attention, "lens": self.lens}

    @property
    def similarity(self) -> CurvesByLayer:
        """The similarity curves of layers 0..L."""
        self._compare()
        return dict(enumerate(self._similarity))

    @cached_property
    def attention(self) -> CurvesByLayer:
        """The attention curves of the layers 1..L whose attention is measured."""
        by_layer: CurvesByLayer = {}
        for device in dict.fromkeys(norm_BN.device for norm_BN in self.norms_by_layer.values()):
            norms = {layer: n_BN for layer, n_BN in self.norms_by_layer.items() if n_BN.device == device}
            last_B = self.positions.last_B.to(device).repeat(len(norms))
            visual_BN, text_BN = (mask_BN.repeat(len(norms), 1) for mask_BN in self._masks(device))
            curves = attention.attention_curves(torch.cat(list(norms.values())), visual_BN, text_BN, last_B)
            by_layer |= dict(zip(norms, _split_layers(curves, len(norms)), strict=True))
        return by_layer

    @cached_property
    def lens(self) -> CurvesByLayer:
        """The lens curves of layers 0..L; empty if the lens is not measured."""
        if not self._decoder:
            return {}
        counts = self.positions.visual_BN.sum(1).tolist()
        with torch.no_grad():
            curves = lens.lens_curves(torch.stack(self._decoder.logits()), counts)
        layers = len(self.anatomy.layers) + 1
        return {
            layer: {name: values_LB[layer] for name, values_LB in curves.items()} for layer in range(layers)
        }

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The lens' top-1 token at each visual position [P], per layer 0..L, after the pass.

        Empty if the lens is not measured.
        """
        with torch.no_grad():
            return self._decoder.tokens() if self._decoder else []

    @contextmanager
    def watching(self) -> Iterator[Probe]:
        """Attach hooks to the blocks and attentions within the ``with`` block, for one forward pass."""
        layers = self.anatomy.layers
        with ExitStack() as stack:
            first = layers[0].register_forward_pre_hook(self._enter, with_kwargs=True)
            stack.callback(first.remove)
            for layer in layers:
                stack.callback(layer.register_forward_hook(self._leave).remove)
            for site in self.anatomy.sites.values():
                stack.callback(site.output.register_forward_pre_hook(self._project).remove)
            stack.enter_context(watch_attention(self._attend))
            stack.enter_context(torch.no_grad())
            yield self

    def see_contributions(self, module: nn.Module, contribution_BND: Tensor) -> None:
        """Called with each layer's contributions [B, N, D] before they become norms, for subclasses."""

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._see_states(input_states(args, kwargs))

    def _leave(self, _: nn.Module, __: Any, result: Any) -> None:
        self._see_states(output_states(result))

    def _see_states(self, hidden_BND: Tensor) -> None:
        if "similarity" not in self.anatomy.unmeasured:
            self._collect(self.positions.clear_padding(self._compared_states(hidden_BND)))
        if self._decoder:
            self._decoder.add(hidden_BND[self._masks(hidden_BND.device)[0]])

    def _compared_states(self, hidden_BND: Tensor) -> Tensor:
        """The states that similarity compares: the last layer's after the final norm, if that is wanted."""
        self._layers_seen += 1
        is_last = self._layers_seen == len(self.anatomy.layers) + 1
        return self._norm_of_last(hidden_BND) if is_last and self._norm_of_last else hidden_BND

    def _collect(self, hidden_BND: Tensor) -> None:
        """Collect a layer's states: comparing several layers at once is faster than each by itself."""
        kinds = {(states.device, states.shape) for states in (*self._buffer, hidden_BND)}
        if len(kinds) > 1:  # another device, or a final norm that changes the width
            self._compare()
        alone = not self._buffer and hidden_BND.numel() >= BUFFER_SIZE
        self._buffer.append(hidden_BND if alone else hidden_BND.clone())  # it may be changed in place
        if sum(states.numel() for states in self._buffer) >= BUFFER_SIZE:
            self._compare()

    def _compare(self) -> None:
        """Compute the similarity curves of the collected layers."""
        if not self._buffer:
            return
        layers, self._buffer = self._buffer, []
        visual_BN, text_BN = (mask_BN.repeat(len(layers), 1) for mask_BN in self._masks(layers[0].device))
        with torch.no_grad(), torch.autocast(layers[0].device.type, enabled=False):
            curves = similarity(torch.cat(layers) if len(layers) > 1 else layers[0], visual_BN, text_BN)
            self._similarity += _split_layers(curves, len(layers))

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        kwargs: Mapping[str, Any],
    ) -> OutputHook | None:
        """Called before an attention runs: multiply its values by the attention weights of row t."""
        if module not in self.anatomy.sites:
            return None
        last_B = self.positions.last_B.to(query.device)
        weighted_BND = attention.weighted_values(module, (query, key, value), mask, last_B, kwargs)
        self._call = _AttentionCall(module, weighted_BND, None)

        def keep(output: Tensor) -> Tensor:
            self._call = _AttentionCall(module, weighted_BND, output.clone())  # a gate may change it in place
            return output

        return keep if self.anatomy.sites[module].gated else None

    def _project(self, output: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Called before an output projection runs: compute each position's contribution at t and its norm."""
        if self._call is None or self.anatomy.sites[self._call.module].output is not output:
            return
        (module, weighted_BND, attended), self._call = self._call, None
        if attended is not None:
            projected_BND, attended_BND = (
                states.reshape(weighted_BND.shape) for states in (args[0], attended)
            )
            weighted_BND = weighted_BND * attention.gate(projected_BND, attended_BND, self.positions.last_B)
        # This calls the hooked module again; ``_call`` is None by now, so its hooks do nothing.
        contribution_BND = attention.project(output, weighted_BND)
        self.see_contributions(module, contribution_BND)
        self.norms_by_layer[self.anatomy.sites[module].layer] = contribution_BND.float().norm(dim=-1)

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Visual and text positions [B, N] on a device."""
        return self.positions.visual_BN.to(device), self.positions.text_BN.to(device)


def _split_layers(curves: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Split curves of ``count`` layers, [K * B] each, into one dictionary of curves [B] per layer."""
    split = {name: values.view(count, -1).unbind() for name, values in curves.items()}
    return [{name: values[k] for name, values in split.items()} for k in range(count)]
