"""Gates between attention and output projection: told from norms by perturbing what passes them.

A gate multiplies each element of the attention's output by a factor that does not depend on that
output; then contributions pass it one by one. A norm's factors do depend on it. Dividing what comes
out by what went in cannot tell them apart, so the attention's output is changed and the factors
must stay.

Shapes: B batch, N positions, H * E heads side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.measurement.positions import Positions
from phasebench.models.anatomy.adapter import Anatomy, forward
from phasebench.models.anatomy.shadow import After, shadowed_attention

CLEAR = 1e-2
"""Elements below this share of the largest are left out of the comparison: a quotient of roundings."""


def gate_errors(anatomy: Anatomy, inputs: Mapping[str, Tensor], positions: Positions) -> dict[int, float]:
    """Gated layer -> largest change of a factor, relative to the layer's largest factor; empty without gates.

    Two more forward passes, only for models that have gates.
    """
    if not any(site.gated for site in anatomy.sites.values()):
        return {}
    plain, disturbed = _Factors(anatomy, positions), _Factors(anatomy, positions, disturbs=True)
    for factors in (plain, disturbed):
        factors.watch(inputs)
    return {layer: _change(plain.seen[layer], disturbed.seen[layer]) for layer in plain.seen}


def _change(before: Tensor, after: Tensor) -> float:
    known = before.isfinite() & after.isfinite()
    largest = before[known].abs().max().clamp_min(1e-20)
    return float((after - before)[known].abs().max() / largest)


class _Factors:
    """What each gated output projection is given over what its attention gave, at t [B, H * E]."""

    def __init__(self, anatomy: Anatomy, positions: Positions, *, disturbs: bool = False) -> None:
        self.anatomy = anatomy
        self.last_B = positions.last_B
        self.shape = positions.visual_BN.shape
        self.disturbs = disturbs
        self.seen: dict[int, Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)
        self._held: tuple[nn.Module, Tensor, Tensor] | None = None

    def watch(self, inputs: Mapping[str, Tensor]) -> None:
        with ExitStack() as stack:
            for site in self.anatomy.sites.values():
                stack.callback(site.output.register_forward_pre_hook(self._divide).remove)
            stack.enter_context(shadowed_attention(self._attend))
            forward(self.anatomy.model, inputs)

    def _attend(self, module: nn.Module, *_: Any) -> After | None:
        site = self.anatomy.sites.get(module)
        return (lambda output: self._disturb(module, output)) if site and site.gated else None

    def _disturb(self, module: nn.Module, output: Tensor) -> Tensor:
        """About half of the output's elements doubled, kept to be halved again: no precision rounds that."""
        factor = torch.ones_like(output)
        if self.disturbs:
            factor += (torch.rand(output.shape, generator=self._generator) < 0.5).to(output)
        changed = output * factor
        self._held = module, changed.clone(), factor  # what is returned may be changed in place
        return changed

    def _divide(self, output: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Note the factors; give the projection what it would have had, so that later layers agree."""
        if self._held is None or self.anatomy.sites[self._held[0]].output is not output:
            return None
        (module, attended, factor), self._held = self._held, None
        given = args[0]
        rows = torch.arange(len(self.last_B), device=given.device)
        at_t = rows, self.last_B.to(given.device)
        attended_BE = attended.reshape(*self.shape, -1)[at_t]
        quotient_BE = given.reshape(*self.shape, -1)[at_t] / attended_BE
        small_BE = attended_BE.abs() < CLEAR * attended_BE.abs().amax(-1, keepdim=True)
        self.seen[self.anatomy.sites[module].layer] = quotient_BE.float().masked_fill(small_BE, torch.nan)
        return (given / factor.reshape(given.shape), *args[1:])
