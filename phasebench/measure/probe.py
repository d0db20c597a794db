"""The probe: hooks that reduce each layer to a few numbers while the forward pass goes by.

Nothing of size layers x positions x width is kept. Shapes: B batch, N positions, D width,
P visual positions of the batch, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.measure import attention, lens
from phasebench.measure.positions import Positions
from phasebench.measure.similarity import similarity
from phasebench.models.adapter import Anatomy
from phasebench.models.shadow import shadowed_attention
from phasebench.models.trace import entering, leaving


class Probe:
    """Collects the curves of one batch; use as ``with probe.watching(): model(**inputs)``.

    Attributes:
        similarity: one dict of [B] per layer 0..L.
        attention: layer 1..L -> dict of [B]; only of layers whose attention is read.
        norms_LBN: layer -> the norms a_j, for heatmaps.
    """

    def __init__(self, anatomy: Anatomy, positions: Positions, *, lens_norm: bool = True) -> None:
        self.anatomy = anatomy
        self.positions = positions
        self.similarity: list[dict[str, Tensor]] = []
        self.attention: dict[int, dict[str, Tensor]] = {}
        self.norms_LBN: dict[int, Tensor] = {}
        self._held: tuple[nn.Module, Tensor] | None = None
        self._decoder: lens.Decoder | None = None
        if anatomy.head is not None and "lens" not in anatomy.unmeasured:
            norm = anatomy.final_norm if lens_norm else None
            self._decoder = lens.Decoder(norm, anatomy.head, anatomy.vocabulary, anatomy.never)

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The lens' top-1 token at each visual position [P], per layer 0..L; once the pass is over.

        Empty where no lens is read.
        """
        with torch.inference_mode():
            return self._decoder.tokens() if self._decoder else []

    @contextmanager
    def watching(self) -> Iterator[Probe]:
        """Hook the blocks and the attentions for the time of one forward pass."""
        layers = self.anatomy.layers
        with ExitStack() as stack:
            first = layers[0].register_forward_pre_hook(self._enter, with_kwargs=True)
            stack.callback(first.remove)
            for layer in layers:
                stack.callback(layer.register_forward_hook(self._leave).remove)
            for site in self.anatomy.sites.values():
                stack.callback(site.output.register_forward_pre_hook(self._project).remove)
            stack.enter_context(shadowed_attention(self._attend))
            stack.enter_context(torch.inference_mode())
            yield self

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._states(entering(args, kwargs))

    def _leave(self, _: nn.Module, __: Any, result: Any) -> None:
        self._states(leaving(result))

    def _states(self, hidden_BND: Tensor) -> None:
        visual_BN, text_BN = self._masks(hidden_BND.device)
        if "similarity" not in self.anatomy.unmeasured:
            self.similarity.append(similarity(hidden_BND, visual_BN, text_BN))
        if self._decoder:
            self._decoder.add(hidden_BND[visual_BN])

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        kwargs: Mapping[str, Any],
    ) -> None:
        if module in self.anatomy.sites:
            last_B = self.positions.last_B.to(query.device)
            weighted = attention.weighted_values(module, (query, key, value), mask, last_B, kwargs)
            self._held = module, weighted

    def _project(self, output: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Before an output projection runs: what each position adds to the block's output at t."""
        if self._held is None or self.anatomy.sites[self._held[0]].output is not output:
            return
        (module, weighted_BND), self._held = self._held, None
        site, last_B = self.anatomy.sites[module], self.positions.last_B.to(weighted_BND.device)
        if site.gated:
            given_BND = args[0].reshape(*weighted_BND.shape[:2], -1)
            weighted_BND = weighted_BND * attention.gate(given_BND, weighted_BND, last_B)
        # This calls the hooked module: nothing is held by now, so that its hooks pass this call over.
        added_BND = attention.project(output, weighted_BND)
        self.added(module, added_BND)
        norm_BN = added_BND.float().norm(dim=-1)
        self.norms_LBN[site.layer] = norm_BN
        curves = attention.attention_curves(norm_BN, *self._masks(norm_BN.device), last_B)
        self.attention[site.layer] = curves

    def added(self, module: nn.Module, added_BND: Tensor) -> None:
        """Sees the contributions of every layer before they are reduced; for the self-test."""

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.positions.visual_BN.to(device), self.positions.text_BN.to(device)
