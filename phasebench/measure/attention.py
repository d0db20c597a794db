"""Norm-based attention (Kobayashi et al. 2020) of the last text token, one row per layer.

a_j = || sum_h alpha_h(t, j) v_h(j) W_O^h ||: heads are summed before the norm, the value bias is
in, the output bias, the residual and the layer norm are not.

Shapes: B batch, H heads, N positions, E head width, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.names import ATTENTION

FIRST = 5
"""The paper's 'first several tokens' (section 3.2)."""


def contributions(
    attention: nn.Module,
    eager: Callable[..., tuple[Tensor, Tensor]],
    output: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    last_B: Tensor,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """What each position j adds to the attention block's output at t [B, N, D].

    Args:
        attention: the attention module, as its own eager function wants it.
        eager: that function.
        output: the output projection; called as a module, since its weight may be offloaded.
        states: query [B, H, N, E], key and value [B, H or fewer, N, E].
        mask: what the model gave its attention: None (causal), boolean or additive.
        last_B: position t of each row's last text token.
        kwargs: the rest of what the model gave its attention (scaling, softcap, ...).
    """
    query, key, value = states
    rows = torch.arange(len(last_B), device=query.device)
    query_BH1E = query[rows, :, last_B][:, :, None]
    row_mask = _row(mask, last_B, key.shape[2], query.dtype)
    kwargs = {**kwargs, "dropout": 0.0}
    kwargs.pop("is_causal", None)
    _, alpha_BH1N = eager(attention, query_BH1E, key, value, row_mask, **kwargs)
    value_BHNE = value.repeat_interleave(alpha_BH1N.shape[1] // value.shape[1], dim=1)
    weighted_BHNE = alpha_BH1N[:, :, 0, : value.shape[2], None] * value_BHNE
    return project(output, weighted_BHNE.transpose(1, 2).flatten(2))


def project(output: nn.Module, stacked: Tensor) -> Tensor:
    """The output projection without its bias."""
    projected: Tensor = output(stacked)
    if getattr(output, "bias", None) is not None:
        projected = projected - output(torch.zeros_like(stacked[:1, :1]))
    return projected


def _row(mask: Tensor | None, last_B: Tensor, length: int, dtype: torch.dtype) -> Tensor | None:
    """Row t of each sample's mask, additive [B, 1 or H, 1, N]."""
    rows = torch.arange(len(last_B), device=last_B.device)
    if mask is None:
        allowed_BN = torch.arange(length, device=last_B.device) <= last_B[:, None]
        row = allowed_BN[:, None, None]
    else:
        row = mask.expand(len(last_B), -1, -1, -1)[rows, :, last_B][:, :, None, :length]
    if row.dtype != torch.bool:
        return row
    return torch.zeros(row.shape, dtype=dtype, device=row.device).masked_fill(~row, torch.finfo(dtype).min)


def attention_curves(
    norm_BN: Tensor, visual_BN: Tensor, text_BN: Tensor, last_B: Tensor
) -> dict[str, Tensor]:
    """The curves of one layer from its norms a_j, each [B] float32.

    Positions beyond t and padding count nowhere; the ratio is the mean over the first ``FIRST``
    positions to the mean over all others up to t.
    """
    norm_BN = norm_BN.float()
    real_BN = visual_BN | text_BN
    seen_BN = real_BN & (torch.arange(norm_BN.shape[1], device=norm_BN.device) <= last_B[:, None])
    first_BN = seen_BN & (seen_BN.cumsum(1) <= FIRST)
    first_visual_BN = visual_BN & (visual_BN.cumsum(1) <= FIRST)
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
