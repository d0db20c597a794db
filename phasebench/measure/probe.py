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


class Probe:
    """Collects the curves of one batch; use as ``with probe.watching(): model(**inputs)``.

    Attributes:
        similarity: one dict of [B] per layer 0..L.
        attention: one dict of [B] per layer 1..L, in the order of the calls.
        norms_LBN: the norms a_j of each layer, for heatmaps.
    """

    def __init__(self, anatomy: Anatomy, positions: Positions, *, lens_norm: bool = True) -> None:
        self.anatomy = anatomy
        self.positions = positions
        self.similarity: list[dict[str, Tensor]] = []
        self.attention: list[dict[str, Tensor]] = []
        self.norms_LBN: list[Tensor] = []
        self._decoder = lens.Decoder(anatomy.final_norm if lens_norm else None, anatomy.head)

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The lens' top-1 token at each visual position [P], per layer 0..L; once the pass is over."""
        with torch.inference_mode():
            return self._decoder.tokens()

    @contextmanager
    def watching(self) -> Iterator[Probe]:
        """Hook the blocks and the attentions for the time of one forward pass."""
        layers = self.anatomy.layers
        with ExitStack() as stack:
            first = layers[0].register_forward_pre_hook(self._enter, with_kwargs=True)
            stack.callback(first.remove)
            for layer in layers:
                stack.callback(layer.register_forward_hook(self._leave).remove)
            stack.enter_context(shadowed_attention(self._attend))
            stack.enter_context(torch.inference_mode())
            yield self

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._states(args[0] if args else kwargs["hidden_states"])

    def _leave(self, _: nn.Module, __: Any, result: Any) -> None:
        self._states(result[0] if isinstance(result, tuple) else result)

    def _states(self, hidden_BND: Tensor) -> None:
        visual_BN, text_BN = self._masks(hidden_BND.device)
        self.similarity.append(similarity(hidden_BND, visual_BN, text_BN))
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
        output = self.anatomy.outputs.get(module)
        if output is None:
            return
        last_B = self.positions.last_B.to(query.device)
        added_BND = attention.contributions(
            module, self.anatomy.eager(module), output, (query, key, value), mask, last_B, kwargs
        )
        self.added(module, added_BND)
        norm_BN = added_BND.float().norm(dim=-1)
        self.norms_LBN.append(norm_BN)
        self.attention.append(attention.attention_curves(norm_BN, *self._masks(query.device), last_B))

    def added(self, module: nn.Module, added_BND: Tensor) -> None:
        """Sees the contributions of every layer before they are reduced; for the self-test."""

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.positions.visual_BN.to(device), self.positions.text_BN.to(device)
