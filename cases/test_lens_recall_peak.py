"""Fig. 5: recall of caption words rises through the middle, peaks near depth 33/40 and falls."""

from __future__ import annotations

import numpy as np

from phasebench import (
    Condition,
    Contrast,
    Estimate,
    Evidence,
    Verdict,
    contrasts,
    estimate,
    estimates,
    finding,
    resampled_means,
    verdict,
)
from phasebench.judge.findings.layers import NEAR, largest_layers, mean_near, nearness
from phasebench.judge.statistics import ROUNDING, percentile_estimate

PEAK = 33 / 40
"""Depth of the paper's peak: layer 33 of 40."""
NEAR_PEAK = "recall near depth 0.825"


@finding(
    claim="Recall of caption words rises through the middle, peaks near depth 33/40 = 0.825 and falls.",
    source="Fig. 5, section 3.3",
    needs=("recall",),
    order=5,
)
def test_lens_recall_peak(evidence: Evidence) -> Verdict:
    """Near depth 0.825 there is lift, and more recall than at a quarter of the depth and at the last layer.

    'Near' is the mean over the layers within ``NEAR``, fixed beforehand: a peak chosen on the same images
    would look higher than it is. The peak itself must lie within ``NEAR`` plus half a layer of 0.825.
    """
    curves = evidence.curves
    last, mean = curves.last, curves.mean("recall")
    peak, quarter = int(np.nanargmax(mean)), round(last / 4)
    peaks = largest_layers(resampled_means(curves, "recall"))
    depth = percentile_estimate(peak / last, peaks / last, 1 / last)
    lift = estimate(curves, ("lift",), lambda means: mean_near(means["lift"], PEAK))
    rise, fall = estimates(
        curves,
        ("recall",),
        lambda means: mean_near(means["recall"], PEAK)[..., None] - means["recall"][..., [quarter, last]],
    )
    limit = NEAR + 0.5 / last + 2 * ROUNDING  # a layer exactly at the limit counts as near
    conditions = [
        Condition("lift near depth 0.825", lift),
        Condition("recall near depth 0.825 above a quarter of the depth", rise),
        Condition("recall near depth 0.825 above the last layer", fall),
        Condition("nearness of the peak to depth 0.825", nearness(depth, PEAK, limit)),
    ]
    interval = f"{depth.value:.2f} [{depth.low:.2f}, {depth.high:.2f}]"
    detail = f"recall {mean[peak]:.3f} at layer {peak} of {last} (depth {interval})"
    return verdict(conditions, detail, recall_in_controls(evidence, lift))


def recall_in_controls(evidence: Evidence, lift: Estimate) -> tuple[Contrast, ...]:
    """Recall near the paper's depth with another image's captions (the lift) and in the controls."""
    other_recall = float(mean_near(evidence.curves.mean("recall_other"), PEAK))
    controls = contrasts(
        evidence.curves,
        evidence.controls,
        ("recall",),
        lambda means: mean_near(means["recall"], PEAK),
        quantity=NEAR_PEAK,
    )
    return (Contrast("other captions", other_recall, lift, quantity=NEAR_PEAK), *controls)
