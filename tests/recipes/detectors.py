"""Linear detectors of what the vision encoder distinguishes; a projector's first layer starts from them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.recipes.vision import VisionEncoder, batch_of, pixels, targets

SCORE = 2.0
"""Mean output of a detector if its object is present; the negative if it is absent."""


@torch.no_grad()
def examples(encoder: VisionEncoder, batches: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Patch features [N, D], their nouns' labels [N] and their backgrounds' [N]."""
    features, nouns, grounds = [], [], []
    for step in range(batches):
        scenes = batch_of(step, 64, seed=7)
        patches_BPD = encoder.tower(pixel_values=pixels(scenes)).last_hidden_state[:, 1:]
        noun_BP, _, ground_B = targets(scenes)
        features.append(patches_BPD.flatten(0, 1))
        nouns.append(noun_BP.flatten())
        grounds.append(ground_B[:, None].expand_as(noun_BP).flatten())
    return torch.cat(features), torch.cat(nouns), torch.cat(grounds)


def detectors(features_ND: Tensor, hits_NK: Tensor, weight_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift linear scores to an average of ``SCORE`` on hits and ``-SCORE`` elsewhere."""
    scores_NK = features_ND @ weight_KD.T
    share_K = hits_NK.mean(0)
    on_K = (scores_NK * hits_NK).mean(0) / share_K
    off_K = (scores_NK * (1 - hits_NK)).mean(0) / (1 - share_K)
    scale_K = 2 * SCORE / (on_K - off_K)
    return weight_KD * scale_K[:, None], -(on_K + off_K) / 2 * scale_K


def probes(features_ND: Tensor, hits_NK: Tensor) -> Tensor:
    """Least-squares directions [K, D] that separate hits from the rest."""
    centred_ND = features_ND - features_ND.mean(0)
    gram_DD = centred_ND.T @ centred_ND
    ridge_DD = 1e-3 * gram_DD.diagonal().mean() * torch.eye(len(gram_DD))
    solved_DK: Tensor = torch.linalg.solve(gram_DD + ridge_DD, centred_ND.T @ (hits_NK - hits_NK.mean(0)))
    return solved_DK.T


def whitening(features_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and shift that give the features unit covariance and zero mean."""
    mean_D = features_ND.mean(0)
    values_D, vectors_DD = torch.linalg.eigh(torch.cov(features_ND.T))
    weight_DD = (vectors_DD / (values_D + 1e-4 * values_D.mean()).sqrt()).T
    return weight_DD, -weight_DD @ mean_D
