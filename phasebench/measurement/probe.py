"""The probe: hooks that reduce each layer to a few numbers while the forward pass goes by.

Nothing of size layers x positions x width is kept: small states wait until some layers can be compared
at once, up to ``HELD`` numbers. Shapes: B batch, N positions, D width, P visual positions of the batch,
L layers, K layers taken together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.measurement import attention, lens
from phasebench.measurement.positions import Positions
from phasebench.measurement.similarity import similarity
from phasebench.models.anatomy.adapter import Anatomy
from phasebench.models.anatomy.shadow import After, shadowed_attention
from phasebench.models.anatomy.trace import entering, leaving

HELD = 1 << 20
"""States wait while they are fewer numbers than this."""


class Probe:
    """Collects the curves of one batch; use as ``with probe.watching(): model(**inputs)``.

    Attributes:
        norm_BN_of: layer 1..L -> the norms a_j; only of layers whose attention is read.
    """

    def __init__(self, anatomy: Anatomy, positions: Positions, *, lens_norm: bool = True) -> None:
        self.anatomy = anatomy
        self.positions = positions
        self.norm_BN_of: dict[int, Tensor] = {}
        self._similarity: list[dict[str, Tensor]] = []
        self._waiting: list[Tensor] = []
        self._held: tuple[nn.Module, Tensor, Tensor | None] | None = None
        self._decoder: lens.Decoder | None = None
        if anatomy.head is not None and "lens" not in anatomy.unmeasured:
            norm = anatomy.final_norm if lens_norm else None
            self._decoder = lens.Decoder(norm, anatomy.head, anatomy.vocabulary, anatomy.never)

    @property
    def similarity(self) -> list[dict[str, Tensor]]:
        """One dict of [B] per layer 0..L."""
        self._compare()
        return self._similarity

    @cached_property
    def attention(self) -> dict[int, dict[str, Tensor]]:
        """Layer 1..L -> dict of [B], once the pass is over."""
        found: dict[int, dict[str, Tensor]] = {}
        for device in dict.fromkeys(norm_BN.device for norm_BN in self.norm_BN_of.values()):
            norms = {layer: norm_BN for layer, norm_BN in self.norm_BN_of.items() if norm_BN.device == device}
            last_B = self.positions.last_B.to(device).repeat(len(norms))
            visual_BN, text_BN = (mask_BN.repeat(len(norms), 1) for mask_BN in self._masks(device))
            curves = attention.attention_curves(torch.cat(list(norms.values())), visual_BN, text_BN, last_B)
            found |= dict(zip(norms, _layers(curves, len(norms)), strict=True))
        return found

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The lens' top-1 token at each visual position [P], per layer 0..L; once the pass is over.

        Empty where no lens is read.
        """
        with torch.inference_mode():
            return self._decoder.tokens() if self._decoder else []

    @cached_property
    def max_logit(self) -> list[Tensor]:
        """The mean over an image's visual positions of that token's logit [B], per layer 0..L."""
        if not self._decoder:
            return []
        counts = self.positions.visual_BN.sum(1).tolist()
        with torch.inference_mode():
            logits_LP = torch.stack(self._decoder.logits()).float()
            means = [part_LP.mean(1) for part_LP in torch.split(logits_LP, counts, dim=1)]
            return list(torch.stack(means, dim=1))

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
        if "similarity" not in self.anatomy.unmeasured:
            self._hold(self.positions.cleared(hidden_BND))
        if self._decoder:
            self._decoder.add(hidden_BND[self._masks(hidden_BND.device)[0]])

    def _hold(self, hidden_BND: Tensor) -> None:
        """Let the states of a layer wait for the next ones: a dozen small operations a layer are slow."""
        if self._waiting and self._waiting[0].device != hidden_BND.device:
            self._compare()
        alone = not self._waiting and hidden_BND.numel() >= HELD
        self._waiting.append(hidden_BND if alone else hidden_BND.clone())  # it may be changed in place
        if sum(states.numel() for states in self._waiting) >= HELD:
            self._compare()

    def _compare(self) -> None:
        """The similarity curves of the waiting layers."""
        if not self._waiting:
            return
        held, self._waiting = self._waiting, []
        visual_BN, text_BN = (mask_BN.repeat(len(held), 1) for mask_BN in self._masks(held[0].device))
        with torch.inference_mode():
            curves = similarity(torch.cat(held) if len(held) > 1 else held[0], visual_BN, text_BN)
            self._similarity += _layers(curves, len(held))

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        kwargs: Mapping[str, Any],
    ) -> After | None:
        if module not in self.anatomy.sites:
            return None
        last_B = self.positions.last_B.to(query.device)
        weighted = attention.weighted_values(module, (query, key, value), mask, last_B, kwargs)
        self._held = module, weighted, None

        def keep(output: Tensor) -> Tensor:
            self._held = module, weighted, output.clone()  # a gate may change it in place
            return output

        return keep if self.anatomy.sites[module].gated else None

    def _project(self, output: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Before an output projection runs: what each position adds to the block's output at t."""
        if self._held is None or self.anatomy.sites[self._held[0]].output is not output:
            return
        (module, weighted_BND, attended), self._held = self._held, None
        site = self.anatomy.sites[module]
        if attended is not None:
            given_BND, attended_BND = (one.reshape(weighted_BND.shape) for one in (args[0], attended))
            weighted_BND = weighted_BND * attention.gate(given_BND, attended_BND, self.positions.last_B)
        # This calls the hooked module: nothing is held by now, so that its hooks pass this call over.
        added_BND = attention.project(output, weighted_BND)
        self.added(module, added_BND)
        self.norm_BN_of[site.layer] = added_BND.float().norm(dim=-1)

    def added(self, module: nn.Module, added_BND: Tensor) -> None:
        """Sees the contributions of every layer before they are reduced; for the self-test."""

    def _masks(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.positions.visual_BN.to(device), self.positions.text_BN.to(device)


def _layers(curves: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Curves of ``count`` layers taken together, [K * B] each, as one dict of [B] per layer."""
    split = {name: values.view(count, -1).unbind() for name, values in curves.items()}
    return [{name: values[k] for name, values in split.items()} for k in range(count)]
