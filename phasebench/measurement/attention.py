"""Norm-based attention (Kobayashi et al. 2020) of the last text token, one row per layer.

a_j = || sum_h alpha_h(t, j) v_h(j) W_O^h ||: heads are summed before the norm, the value bias is
in, the output bias, the residual and the layer norm are not.

Shapes: B batch, H heads, K heads of values with G queries each, N positions, E head width, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from phasebench.catalog import ATTENTION, FIRST_POSITIONS
from phasebench.models.anatomy.shadow import own_eager

TINY = 1e-5
"""Share of the largest element below which an attention's output is rounding."""


def weighted_values(
    attention: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    last_B: Tensor,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """alpha_h(t, j) v_h(j) of every position j, heads side by side [B, N, H * E].

    Args:
        attention: the attention module; the row is computed by its own file's eager function.
        states: query [B, H, N, E], key and value [B, H or fewer, N, E].
        mask: what the model gave its attention: None (causal), boolean or additive.
        last_B: position t of each row's last text token.
        kwargs: the rest of what the model gave its attention (scaling, softcap, ...).
    """
    query, key, value = states
    length = query.shape[2]
    told = {name: _row(given, last_B, length) for name, given in kwargs.items()}
    causal = told.pop("is_causal", None)
    row_mask = _mask_row(mask, last_B, length, query.dtype)
    if mask is None and (getattr(attention, "is_causal", True) if causal is None else causal):
        row_mask = _causal_row(last_B, length, query.dtype)
    told["dropout"] = 0.0
    query_BH1E = _row(query, last_B, length)
    _, alpha_BH1N = own_eager(attention)(attention, query_BH1E, key, value, row_mask, **told)
    value_BNKE = value.transpose(1, 2)
    # K heads have values, each shared by G queries; a learned sink's weight would come last.
    alpha_BNKG = alpha_BH1N.transpose(1, 3)[:, : value.shape[2], 0].reshape(*value_BNKE.shape[:3], -1)
    return (alpha_BNKG[..., None] * value_BNKE[:, :, :, None]).flatten(2)


def project(output: nn.Module, stacked: Tensor) -> Tensor:
    """The output projection without its bias.

    Most positions add far less than a bias does: in 16 bits what they add would be rounded as the sum is.
    """
    # Where accelerate keeps weights elsewhere it puts a forward of its own on the module.
    if getattr(output, "bias", None) is not None and "forward" not in vars(output):
        if type(output) is nn.Linear:
            return F.linear(stacked, output.weight)
        if type(output) is Conv1D:
            return stacked @ cast("Tensor", output.weight)
    projected: Tensor = output(stacked)
    if getattr(output, "bias", None) is not None:  # within a wrapper, or quantised: only the sum can be had
        projected = projected - output(torch.zeros_like(stacked[:1, :1]))
    return projected


def gate(given_BND: Tensor, attended_BND: Tensor, last_B: Tensor) -> Tensor:
    """What stands between attention and output projection at t, as factors [B, 1, H * E].

    The ratio of what the projection was given to what the attention gave, itself and not the contributions'
    sum, which in 16 bits is another; where it gave (nearly) nothing there is nothing to share out.
    """
    rows, at_t = torch.arange(len(last_B), device=given_BND.device), last_B.to(given_BND.device)
    attended_BD = attended_BND[rows, at_t]
    nothing_BD = attended_BD.abs() <= TINY * attended_BD.abs().amax(1, keepdim=True)
    return (given_BND[rows, at_t] / attended_BD).masked_fill(nothing_BD, 0.0)[:, None]


def _row(given: Any, last_B: Tensor, length: int) -> Any:
    """Row t of what has one row a query [B or 1, H, N, ...] as [B, H, 1, ...]; anything else as it is."""
    if not (isinstance(given, Tensor) and given.dim() == 4 and given.shape[2] == length):
        return given
    rows = torch.arange(len(last_B), device=given.device)
    return given.expand(len(last_B), -1, -1, -1)[rows, :, last_B.to(given.device)][:, :, None]


def _mask_row(mask: Tensor | None, last_B: Tensor, length: int, dtype: torch.dtype) -> Tensor | None:
    """Row t of each sample's mask, additive [B, 1 or H, 1, N]; a mask for all queries alike stays."""
    row = _row(mask, last_B, length)
    return _additive(row, dtype) if isinstance(row, Tensor) and row.dtype == torch.bool else row


def _causal_row(last_B: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    allowed_BN = torch.arange(length, device=last_B.device) <= last_B[:, None]
    return _additive(allowed_BN[:, None, None], dtype)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, torch.finfo(dtype).min)


def attention_curves(
    norm_BN: Tensor, visual_BN: Tensor, text_BN: Tensor, last_B: Tensor
) -> dict[str, Tensor]:
    """The curves of one layer from its norms a_j, each [B] float32.

    Padding and what t cannot see beyond itself count nowhere; the ratio is the mean over the first
    ``FIRST_POSITIONS`` positions to the mean over all others.
    """
    norm_BN = norm_BN.float().masked_fill(~(visual_BN | text_BN), 0.0)
    past_BN = torch.arange(norm_BN.shape[1], device=norm_BN.device) <= last_B[:, None]
    seen_BN = (visual_BN | text_BN) & (past_BN | (norm_BN > 0))
    first_BN = seen_BN & (seen_BN.cumsum(1) <= FIRST_POSITIONS)
    first_visual_BN = visual_BN & (visual_BN.cumsum(1) <= FIRST_POSITIONS)
    total_B = (norm_BN * seen_BN).sum(1)
    masks = (first_BN, first_visual_BN, visual_BN & seen_BN, text_BN & seen_BN)
    curves = {
        name: (norm_BN * mask).sum(1) / total_B for name, mask in zip(ATTENTION[:4], masks, strict=True)
    }
    curves["share_self"] = norm_BN.gather(1, last_B[:, None])[:, 0] / total_B
    others_BN = seen_BN & ~first_BN
    mean_first_B = (norm_BN * first_BN).sum(1) / first_BN.sum(1)
    mean_others_B = (norm_BN * others_BN).sum(1) / others_BN.sum(1)
    return {**curves, "ratio_first5": mean_first_B / mean_others_B, "total": total_B}
