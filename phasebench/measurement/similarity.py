"""Contextualization (paper eq. 1, section 3.1): mean cosine between and within modalities.

The mean of all pairwise cosines is the dot product of the two mean unit vectors, so the m x n matrix of
cosines is never computed. Shapes: B batch, N positions, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

SINK_RATIO = 10.0
"""A position is a sink if its state's norm exceeds this many times the median norm of its modality."""


def similarity(hidden_BND: Tensor, visual_BN: Tensor, text_BN: Tensor) -> dict[str, Tensor]:
    """All similarity curves at one layer, each [B] float32; NaN where a mean has no pairs.

    Args:
        hidden_BND: states at one layer.
        visual_BN: True at visual positions.
        text_BN: True at text positions.
    """
    hidden_BND = hidden_BND.float()
    norm_BN = hidden_BND.norm(dim=-1)
    sink_BN = _sinks(norm_BN, visual_BN) | _sinks(norm_BN, text_BN)
    masks = [visual_BN, text_BN, visual_BN & ~sink_BN, text_BN & ~sink_BN]
    weights_B4N = torch.stack([mask_BN.expand_as(norm_BN) for mask_BN in masks], dim=1).float()
    scale_B1N = norm_BN.clamp_min(torch.finfo(torch.float32).tiny).reciprocal()[:, None]
    sums_B4D, counts_B4 = (weights_B4N * scale_B1N) @ hidden_BND, weights_B4N.sum(2)
    selves_B4 = (weights_B4N * (norm_BN > 0)[:, None]).sum(2)  # a state of zeros has no cosine, not even of 1
    curves = _means(sums_B4D[:, :2], counts_B4[:, :2], selves_B4[:, :2])
    sinkless = _means(sums_B4D[:, 2:], counts_B4[:, 2:], selves_B4[:, 2:])
    curves.update({f"{name}_nosink": values for name, values in sinkless.items()})
    curves["sinks"] = sink_BN.sum(1).float()
    return curves


def _sinks(norm_BN: Tensor, modality_BN: Tensor) -> Tensor:
    """The sinks of one modality; torch's own median of an even number is the lower of the middle two."""
    sorted_BN = norm_BN.masked_fill(~modality_BN, torch.inf).sort(dim=1).values
    count_B1 = modality_BN.sum(dim=1, keepdim=True).clamp_min(1)
    lower_B1, upper_B1 = sorted_BN.gather(1, (count_B1 - 1) // 2), sorted_BN.gather(1, count_B1 // 2)
    return modality_BN & (norm_BN > SINK_RATIO * (lower_B1 + upper_B1) / 2)


def _means(sums_B2D: Tensor, counts_B2: Tensor, selves_B2: Tensor) -> dict[str, Tensor]:
    """Mean cosines, from the sums of unit vectors at visual and text positions.

    ``counts_B2`` are the numbers of these positions, ``selves_B2`` of those whose state is not zero.
    """
    (visual_BD, text_BD), (m_B, n_B) = sums_B2D.unbind(1), counts_B2.unbind(1)
    inter_B = (visual_BD * text_BD).sum(-1) / (m_B * n_B)
    intra_B2 = _within(sums_B2D, counts_B2, selves_B2)
    return {"inter": inter_B, "intra_visual": intra_B2[:, 0], "intra_text": intra_B2[:, 1]}


def _within(sums_B2D: Tensor, counts_B2: Tensor, selves_B2: Tensor) -> Tensor:
    """Mean over ordered pairs i != j: the self-pairs, each with a cosine of 1, are subtracted."""
    pairs_B2 = counts_B2 * (counts_B2 - 1)
    return ((sums_B2D.square().sum(-1) - selves_B2) / pairs_B2).where(pairs_B2 > 0, torch.nan)
