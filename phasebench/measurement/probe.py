"""The probe: hooks that reduce each layer to a few numbers during the forward pass.

Nothing of size layers x positions x width stays in memory: small states are collected, up to
``BUFFER_SIZES`` numbers, so that several layers can be compared at once.

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
from phasebench.measurement.attention import LastRow
from phasebench.measurement.positions import Positions
from phasebench.measurement.similarity import similarity
from phasebench.models.anatomy.adapter import Anatomy
from phasebench.models.anatomy.attention_watch import OutputHook, watch_attention
from phasebench.models.anatomy.trace import input_states, output_states

BUFFER_SIZES = {"cpu": 1 << 20}
"""Kind of a device -> states are collected up to this many numbers, which stay in its cache."""
ACCELERATOR_BUFFER_SIZE = 1 << 26
"""The same on accelerators, where the number of kernels counts: half the layers of LLaVA-1.5-13B."""


class LayerCurves(NamedTuple):
    """Curves at K layers, all on one device.

    Attributes:
        layers: the layers' numbers.
        values: name of a curve -> its values [K, B].
    """

    layers: list[int]
    values: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return next(iter(self.values.values())).device


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
        self._similarity: list[LayerCurves] = []
        self._buffer: Tensor | None = None
        self._collected = 0
        self._rows: dict[torch.device, LastRow] = {}
        self._norm_of_last = anatomy.final_norm if normed_last_layer else None
        self._layers_seen = 0
        self._call: _AttentionCall | None = None
        self._decoder: lens.Decoder | None = None
        if anatomy.head is not None and "lens" not in anatomy.unmeasured:
            norm = anatomy.final_norm if lens_norm else None
            self._decoder = lens.Decoder(norm, anatomy.head, anatomy.vocabulary, anatomy.masked_vocabulary)

    def curves(self) -> dict[Part, list[LayerCurves]]:
        """The curves of each part, after the pass; empty for a part that is not measured."""
        return {"similarity": self.similarity, "attention": self.attention, "lens": self.lens}

    @property
    def similarity(self) -> list[LayerCurves]:
        """The similarity curves of layers 0..L."""
        self._compare()
        return self._similarity

    @cached_property
    def attention(self) -> list[LayerCurves]:
        """The attention curves of the layers 1..L whose attention is measured."""
        found = []
        for layers, norms_KBN in self.norms():
            count, positions = len(layers), self.positions.on(norms_KBN.device)
            visual_BN, text_BN = positions.visual_BN.repeat(count, 1), positions.text_BN.repeat(count, 1)
            last_B = positions.last_B.repeat(count)
            curves = attention.attention_curves(norms_KBN.flatten(0, 1), visual_BN, text_BN, last_B)
            found.append(_layer_curves(layers, curves))
        return found

    def norms(self) -> list[tuple[list[int], Tensor]]:
        """The norms a_j [K, B, N] of the K layers on each device, with the layers' numbers."""
        by_device: dict[torch.device, list[int]] = {}
        for layer, norm_BN in self.norms_by_layer.items():
            by_device.setdefault(norm_BN.device, []).append(layer)
        return [
            (layers, torch.stack([self.norms_by_layer[layer] for layer in layers]))
            for layers in by_device.values()
        ]

    @cached_property
    def lens(self) -> list[LayerCurves]:
        """The lens curves of layers 0..L; empty if the lens is not measured."""
        if not self._decoder:
            return []
        with torch.no_grad():
            curves = lens.lens_curves(self._decoder.logits(), self.positions.counts)
        return [LayerCurves(list(range(len(self.anatomy.layers) + 1)), curves)]

    @cached_property
    def tokens(self) -> Tensor | None:
        """The lens' top-1 token at each visual position [L + 1, P], after the pass.

        None if the lens is not measured.
        """
        with torch.no_grad():
            return self._decoder.tokens() if self._decoder else None

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
            self._collect(self._compared_states(hidden_BND))
        if self._decoder:
            index_P = self.positions.on(hidden_BND.device).index_P
            self._decoder.add(hidden_BND.flatten(0, 1).index_select(0, index_P))

    def _compared_states(self, hidden_BND: Tensor) -> Tensor:
        """The states that similarity compares: the last layer's after the final norm, if that is wanted."""
        self._layers_seen += 1
        is_last = self._layers_seen == len(self.anatomy.layers) + 1
        return self._norm_of_last(hidden_BND) if is_last and self._norm_of_last else hidden_BND

    def _collect(self, hidden_BND: Tensor) -> None:
        """Collect a layer's states: comparing several layers at once is faster than each by itself."""
        if self._buffer is not None and not _is_alike(self._buffer[0], hidden_BND):
            self._compare()
        if self._buffer is None:
            size = BUFFER_SIZES.get(hidden_BND.device.type, ACCELERATOR_BUFFER_SIZE)
            layers_left = len(self.anatomy.layers) + 2 - self._layers_seen
            room = min(size // hidden_BND.numel(), layers_left)
            if room < 2:
                self._compare_layers(hidden_BND[None])
                return
            self._buffer = hidden_BND.new_empty((room, *hidden_BND.shape))
        self._buffer[self._collected].copy_(hidden_BND)
        self._collected += 1
        if self._collected == len(self._buffer):
            self._compare()

    def _compare(self) -> None:
        """Compute the similarity curves of the collected layers."""
        if self._buffer is not None:
            states_KBND, self._buffer = self._buffer[: self._collected], None
            self._collected = 0
            self._compare_layers(states_KBND)

    def _compare_layers(self, states_KBND: Tensor) -> None:
        count, device = len(states_KBND), states_KBND.device
        positions = self.positions.on(device)
        masks = positions.visual_BN.repeat(count, 1), positions.text_BN.repeat(count, 1)
        start = sum(len(curves.layers) for curves in self._similarity)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            cleared_KBND = positions.clear_padding(states_KBND)
            curves = similarity(cleared_KBND.flatten(0, 1), *masks)
        self._similarity.append(_layer_curves(list(range(start, start + count)), curves))

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
        weighted_BND = attention.weighted_values(
            module, (query, key, value), mask, self._row(query.device), kwargs
        )
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
        wide = torch.promote_types(contribution_BND.dtype, torch.float32)
        norm_BN = torch.linalg.vector_norm(contribution_BND, dim=-1, dtype=wide).float()
        self.norms_by_layer[self.anatomy.sites[module].layer] = norm_BN

    def _row(self, device: torch.device) -> LastRow:
        """Picks the rows of the last text tokens on a device."""
        if device not in self._rows:
            self._rows[device] = LastRow(self.positions.on(device).last_B)
        return self._rows[device]


def _is_alike(states: Tensor, others: Tensor) -> bool:
    """Whether two layers' states fit one buffer; a final norm may change the width or the precision."""
    return (states.device, states.dtype, states.shape) == (others.device, others.dtype, others.shape)


def _layer_curves(layers: list[int], curves: Mapping[str, Tensor]) -> LayerCurves:
    """Curves of K layers, from values [K * B]."""
    return LayerCurves(layers, {name: values.view(len(layers), -1) for name, values in curves.items()})
