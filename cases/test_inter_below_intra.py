"""Fig. 3: at every layer from 1 on, similarity between modalities is below that within each modality."""

from __future__ import annotations

import numpy as np

from phasebench import Condition, Evidence, Verdict, contrasts, estimates, finding, verdict
from phasebench.curves import Array
from phasebench.judge.findings.layers import layer_ranges
from phasebench.judge.statistics import Means

MODALITIES = ("inter", "intra_visual", "intra_text")


@finding(
    claim="At every layer from 1 on, similarity between modalities is below that within each.",
    source="Fig. 3",
    needs=MODALITIES,
    order=1,
)
def test_inter_below_intra(evidence: Evidence) -> Verdict:
    """inter < min(intra_visual, intra_text) at layers 1..L.

    Each layer and modality is its own condition, because the smallest of many margins is too low by chance.
    The number is the margin with the smallest z-score.
    """
    curves = evidence.curves
    margins = estimates(curves, MODALITIES, intra_minus_inter)
    names = [(layer, name) for layer in range(1, curves.last + 1) for name in MODALITIES[1:]]
    pairs = list(zip(names, margins, strict=True))
    conditions = [
        Condition(f"margin to {name} at layer {layer}", margin, family="margin")
        for (layer, name), margin in pairs
    ]
    reversed_layers = sorted({layer for (layer, _), margin in pairs if margin.value < 0})
    detail = f"inter is higher at layers {layer_ranges(reversed_layers)}" if reversed_layers else ""
    smallest = int(np.nanargmin([margin.value for margin in margins]))
    controls = contrasts(
        curves,
        evidence.controls,
        MODALITIES,
        lambda means: intra_minus_inter(means)[..., smallest],
        quantity=conditions[smallest].subject,
    )
    return verdict(conditions, detail or "nowhere reversed", controls)


def intra_minus_inter(means: Means) -> Array:
    """Both margins at layers 1..L, layer by layer [..., 2 L]."""
    inter, *intra = (means[name][..., 1:] for name in MODALITIES)
    margins = np.stack([within - inter for within in intra], axis=-1)
    return margins.reshape(*margins.shape[:-2], -1)
