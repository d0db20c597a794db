"""Gates between attention and output projection, distinguished from norms by perturbing their input.

A gate multiplies each element of the attention's output by a factor that does not depend on that
output, so contributions pass it one by one. The factors of a norm do depend on it. The quotient of output and
input cannot distinguish the two, so the attention's output is changed, and a gate's factors must stay.

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
from phasebench.models.anatomy.attention_watch import OutputHook, watch_attention

SMALLEST_SHARE = 1e-2
"""Elements below this share of the largest are not compared: their quotient is mostly rounding error."""


def gate_errors(anatomy: Anatomy, inputs: Mapping[str, Tensor], positions: Positions) -> dict[int, float]:
    """Gated layer -> largest change of a factor, relative to the layer's largest factor; empty without gates.

    For models with gates this takes two more forward passes.
    """
    if not any(site.gated for site in anatomy.sites.values()):
        return {}
    plain, disturbed = (_FactorWatch(anatomy, positions, disturbs=disturbs) for disturbs in (False, True))
    for factor_watch in (plain, disturbed):
        factor_watch.run(inputs)
    return {layer: _change(plain.factors[layer], disturbed.factors[layer]) for layer in plain.factors}


def _change(before: Tensor, after: Tensor) -> float:
    finite = before.isfinite() & after.isfinite()
    largest = before[finite].abs().max().clamp_min(1e-20)
    return float((after - before)[finite].abs().max() / largest)


class _FactorWatch:
    """A pass that divides the input of each gated output projection by its attention's output.

    Attributes:
        factors: gated layer -> the quotients at t [B, H * E]; NaN where the attention's output is too small.
    """

    def __init__(self, anatomy: Anatomy, positions: Positions, *, disturbs: bool) -> None:
        self.factors: dict[int, Tensor] = {}
        self._anatomy = anatomy
        self._last_B = positions.last_B
        self._shape = positions.visual_BN.shape
        self._disturbs = disturbs
        self._generator = torch.Generator().manual_seed(0)
        self._call: tuple[nn.Module, Tensor, Tensor] | None = None

    def run(self, inputs: Mapping[str, Tensor]) -> None:
        """One forward pass; fills ``factors``."""
        with ExitStack() as stack:
            for site in self._anatomy.sites.values():
                stack.callback(site.output.register_forward_pre_hook(self._divide).remove)
            stack.enter_context(watch_attention(self._attend))
            forward(self._anatomy.model, inputs)

    def _attend(self, module: nn.Module, *_: Any) -> OutputHook | None:
        site = self._anatomy.sites.get(module)
        return (lambda output: self._disturb(module, output)) if site and site.gated else None

    def _disturb(self, module: nn.Module, output: Tensor) -> Tensor:
        """The output with about half of its elements doubled, which is exact in any precision."""
        factor = torch.ones_like(output)
        if self._disturbs:
            factor += (torch.rand(output.shape, generator=self._generator) < 0.5).to(output)
        changed = output * factor
        self._call = module, changed.clone(), factor  # what is returned may be changed in place
        return changed

    def _divide(self, output: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Note the factors, and undo the disturbance so that later layers get their usual input."""
        if self._call is None or self._anatomy.sites[self._call[0]].output is not output:
            return None
        (module, attended, factor), self._call = self._call, None
        projected = args[0]
        rows = torch.arange(len(self._last_B), device=projected.device)
        at_t = rows, self._last_B.to(projected.device)
        attended_BE = attended.reshape(*self._shape, -1)[at_t]
        quotient_BE = projected.reshape(*self._shape, -1)[at_t] / attended_BE
        small_BE = attended_BE.abs() < SMALLEST_SHARE * attended_BE.abs().amax(-1, keepdim=True)
        layer = self._anatomy.sites[module].layer
        self.factors[layer] = quotient_BE.float().masked_fill(small_BE, torch.nan)
        return (projected / factor.reshape(projected.shape), *args[1:])
