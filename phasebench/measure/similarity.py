"""Contextualization (paper eq. 1): mean cosine between and within modalities, from unit vectors.

The mean of all pairwise cosines is the dot product of the two mean unit vectors, so no m x n matrix
is ever made. Shapes: B batch, N positions, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

SINK_RATIO = 10.0
"""A position is a sink where its state's norm exceeds this many times its modality's median norm."""


def similarity(hidden_BND: Tensor, visual_BN: Tensor, text_BN: Tensor) -> dict[str, Tensor]:
    """Every similarity curve at one layer, each [B] float32; NaN where a mean has no pairs.

    Args:
        hidden_BND: states at one layer.
        visual_BN: True at visual positions V.
        text_BN: True at text positions T.
    """
    hidden_BND = hidden_BND.float()
    norm_BN = hidden_BND.norm(dim=-1)
    unit_BND = hidden_BND / norm_BN.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    sink_BN = _sinks(norm_BN, visual_BN) | _sinks(norm_BN, text_BN)
    curves = _means(unit_BND, visual_BN, text_BN)
    clean = _means(unit_BND, visual_BN & ~sink_BN, text_BN & ~sink_BN)
    curves.update({f"{name}_nosink": values for name, values in clean.items()})
    curves["sinks"] = sink_BN.sum(1).float()
    return curves


def _sinks(norm_BN: Tensor, members_BN: Tensor) -> Tensor:
    median_B1 = norm_BN.masked_fill(~members_BN, torch.nan).nanmedian(dim=1, keepdim=True).values
    return members_BN & (norm_BN > SINK_RATIO * median_B1)


def _means(unit_BND: Tensor, visual_BN: Tensor, text_BN: Tensor) -> dict[str, Tensor]:
    visual_BD, m_B = _sum(unit_BND, visual_BN)
    text_BD, n_B = _sum(unit_BND, text_BN)
    inter_B = (visual_BD * text_BD).sum(-1) / (m_B * n_B)
    return {"inter": inter_B, "intra_visual": _within(visual_BD, m_B), "intra_text": _within(text_BD, n_B)}


def _sum(unit_BND: Tensor, members_BN: Tensor) -> tuple[Tensor, Tensor]:
    weights_BN = members_BN.to(unit_BND.dtype)
    return torch.einsum("bnd,bn->bd", unit_BND, weights_BN), weights_BN.sum(1)


def _within(sum_BD: Tensor, count_B: Tensor) -> Tensor:
    """Mean over ordered pairs i != j: self-pairs, each a cosine of 1, are taken out."""
    pairs_B = count_B * (count_B - 1)
    mean_B = (sum_BD.square().sum(-1) - count_B) / pairs_B
    return mean_B.where(pairs_B > 0, torch.nan)
