"""Norm-based attention (Kobayashi et al. 2020; paper section 3.2) of the last text token, one row per layer.

a_j = || sum_h alpha_h(t, j) v_h(j) W_O^h ||. Heads are summed before the norm is taken. The value bias is
included; the output bias, the residual stream and layer norms are not.

Shapes: B batch, H heads, K heads of values with G queries each, N positions, E head width, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from phasebench.catalog import FIRST_POSITIONS
from phasebench.models.anatomy.attention_watch import eager_attention

NEGLIGIBLE_SHARE = 1e-5
"""Share of the largest element below which an element of an attention's output is rounding error."""


class LastRow:
    """Row t of each sample, of whatever the layers of one pass give to their attentions.

    Many layers share a mask, so the rows of masks are kept.
    """

    def __init__(self, last_B: Tensor) -> None:
        self._last_B = last_B
        self._samples_B = torch.arange(len(last_B), device=last_B.device)
        self._mask_rows: list[tuple[Tensor, torch.dtype, Tensor]] = []
        self._causal: dict[tuple[int, torch.dtype], Tensor] = {}

    def of(self, argument: Any, length: int) -> Any:
        """Row t [B, H, 1, ...] of an argument with a row per query [B or 1, H, N, ...]; others unchanged."""
        if not (isinstance(argument, Tensor) and argument.dim() == 4 and argument.shape[2] == length):
            return argument
        expanded = argument.expand(len(self._last_B), -1, -1, -1)
        return expanded[self._samples_B, :, self._last_B][:, :, None]

    def of_mask(self, mask: Tensor | None, length: int, dtype: torch.dtype) -> Tensor | None:
        """Row t of a mask, additive [B, 1 or H, 1, N]; a mask that all queries share is unchanged."""
        if mask is None:
            return None
        for known, known_dtype, row in self._mask_rows:
            if known is mask and known_dtype == dtype:
                return row
        row = self.of(mask, length)
        row = _additive(row, dtype) if row.dtype == torch.bool else row
        self._mask_rows.append((mask, dtype, row))
        return row

    def causal(self, length: int, dtype: torch.dtype) -> Tensor:
        """Row t of a causal mask, additive [B, 1, 1, N]."""
        if (length, dtype) not in self._causal:
            allowed_BN = torch.arange(length, device=self._last_B.device) <= self._last_B[:, None]
            self._causal[length, dtype] = _additive(allowed_BN[:, None, None], dtype)
        return self._causal[length, dtype]


def weighted_values(
    attention: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    row: LastRow,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """alpha_h(t, j) v_h(j) for every position j, with the heads side by side [B, N, H * E].

    Args:
        attention: the attention module; the eager function of its model file computes row t.
        states: query [B, H, N, E], key and value [B, H or fewer, N, E].
        mask: the mask with which the model calls its attention; boolean, additive, or None (then the
            attention is causal unless the module says otherwise).
        row: picks the row of each sample's last text token, on the device of the states.
        kwargs: the other arguments of that call (scaling, softcap, ...).
    """
    query, key, value = states
    length = query.shape[2]
    row_kwargs = {name: row.of(argument, length) for name, argument in kwargs.items()}
    causal = row_kwargs.pop("is_causal", None)
    row_mask = row.of_mask(mask, length, query.dtype)
    if mask is None and (getattr(attention, "is_causal", True) if causal is None else causal):
        row_mask = row.causal(length, query.dtype)
    row_kwargs["dropout"] = 0.0
    # Only the weights are wanted, so one of the values' columns is enough.
    states = row.of(query, length), key, value[..., :1]
    _, alpha_BH1N = eager_attention(attention)(attention, *states, row_mask, **row_kwargs)
    value_BNKE = value.transpose(1, 2)
    # K heads have values, each shared by G queries; a learned sink's weight would come last.
    alpha_BNKG = alpha_BH1N.transpose(1, 3)[:, : value.shape[2], 0].reshape(*value_BNKE.shape[:3], -1)
    return (alpha_BNKG[..., None] * value_BNKE[:, :, :, None]).flatten(2)


def project(output: nn.Module, stacked: Tensor) -> Tensor:
    """Apply the output projection without its bias.

    Most positions contribute far less than the bias: in 16 bits, adding the bias would round a contribution
    to the precision of the sum.
    """
    # Where accelerate offloads weights, it puts a forward of its own on the module.
    if getattr(output, "bias", None) is not None and "forward" not in vars(output):
        if type(output) is nn.Linear:
            return F.linear(stacked, output.weight)
        if type(output) is Conv1D:
            return stacked @ cast("Tensor", output.weight)
    projected: Tensor = output(stacked)
    if getattr(output, "bias", None) is not None:  # wrapped or quantised: the bias can only be subtracted
        projected = projected - output(torch.zeros_like(stacked[:1, :1]))
    return projected


def gate(projected_BND: Tensor, attended_BND: Tensor, last_B: Tensor) -> Tensor:
    """The factors of a gate between attention and output projection at t, [B, 1, H * E].

    They are the input of the output projection divided by the attention's own output. (The sum of the
    contributions would be another number in 16 bits.) Where the attention's output is (nearly) 0, the factor
    is 0, because then there is no contribution to scale.

    Args:
        projected_BND: the input of the output projection.
        attended_BND: the attention's output.
        last_B: position t of each row.
    """
    rows, at_t = torch.arange(len(last_B), device=projected_BND.device), last_B.to(projected_BND.device)
    attended_BD = attended_BND[rows, at_t]
    negligible_BD = attended_BD.abs() <= NEGLIGIBLE_SHARE * attended_BD.abs().amax(1, keepdim=True)
    return (projected_BND[rows, at_t] / attended_BD).masked_fill(negligible_BD, 0.0)[:, None]


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, torch.finfo(dtype).min)


def attention_curves(
    norm_BN: Tensor, visual_BN: Tensor, text_BN: Tensor, last_B: Tensor
) -> dict[str, Tensor]:
    """All attention curves at one layer, each [B] float32, from the norms a_j (paper section 3.2).

    Padding is left out, and so are positions after t, unless t attends to them. ``ratio_first5`` is the mean
    over the first ``FIRST_POSITIONS`` positions divided by the mean over the rest.

    Args:
        norm_BN: the norms a_j.
        visual_BN: True at visual positions.
        text_BN: True at text positions.
        last_B: position t of each row.
    """
    real_BN = visual_BN | text_BN
    norm_BN = norm_BN.float().masked_fill(~real_BN, 0.0)
    past_BN = torch.arange(norm_BN.shape[1], device=norm_BN.device) <= last_B[:, None]
    counted_BN = real_BN & (past_BN | (norm_BN > 0))
    first_BN = counted_BN & (counted_BN.cumsum(1) <= FIRST_POSITIONS)
    total_B = (norm_BN * counted_BN).sum(1)
    masks = {
        "share_first5": first_BN,
        "share_first5_visual": visual_BN & (visual_BN.cumsum(1) <= FIRST_POSITIONS),
        "share_visual": visual_BN & counted_BN,
        "share_text": text_BN & counted_BN,
    }
    rest_BN = counted_BN & ~first_BN
    mean_first_B = (norm_BN * first_BN).sum(1) / first_BN.sum(1)
    mean_rest_B = (norm_BN * rest_BN).sum(1) / rest_BN.sum(1)
    return {
        **{name: (norm_BN * mask_BN).sum(1) / total_B for name, mask_BN in masks.items()},
        "share_self": norm_BN.gather(1, last_B[:, None])[:, 0] / total_B,
        "ratio_first5": mean_first_B / mean_rest_B,
        "total": total_B,
    }
