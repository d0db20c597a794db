"""Fig. 5: recall of caption words rises through the middle, peaks near depth 33/40 and falls."""

from __future__ import annotations

import numpy as np

from phasebench import (
    Condition,
    Contrast,
    Curves,
    Estimate,
    Evidence,
    Verdict,
    contrasts,
    estimate,
    finding,
    resampled_means,
    verdict,
)
from phasebench.judge.findings.layers import (
    interval_in_words,
    largest_layers,
    mean_near,
    near_limit,
    nearness,
    peak_above,
    peak_in_words,
)
from phasebench.judge.statistics import percentile_estimate

PEAK = 33 / 40
"""Depth of the paper's peak: layer 33 of 40."""


@finding(
    claim="Recall of caption words rises through the middle, peaks near depth 33/40 = 0.825 and falls.",
    source="Fig. 5, section 3.3",
    needs=("recall",),
    order=5,
)
def test_lens_recall_peak(evidence: Evidence) -> Verdict:
    """Near depth 0.825 there is lift; the peak lies there, above a quarter of the depth and the last layer.

    The lift is the mean over the layers within ``NEAR``. The peak's height is measured on other images than
    those on which its layer is chosen. Its depth must lie within ``NEAR`` plus half a layer of 0.825.
    """
    curves = evidence.curves
    last, mean = curves.last, curves.mean("recall")
    depth = peak_depth(curves)
    lift = estimate(curves, ("lift",), lambda means: mean_near(means["lift"], PEAK))
    rise, fall = peak_above(curves, "recall", (round(last / 4), last))
    conditions = [
        Condition("lift near depth 0.825", lift),
        Condition("recall at its peak above a quarter of the depth", rise),
        Condition("recall at its peak above the last layer", fall),
        Condition("nearness of the peak to depth 0.825", nearness(depth, PEAK, near_limit(last))),
    ]
    detail = f"{peak_in_words(mean, 'recall')} (depth {depth.value:.2f}{interval_in_words(depth, 2)})"
    return verdict(conditions, detail, recall_in_controls(evidence, lift))


def peak_depth(curves: Curves) -> Estimate:
    """The relative depth of recall's largest mean, with its interval from the peaks of resamples."""
    peaks = largest_layers(resampled_means(curves, "recall")) / curves.last
    peak = int(np.nanargmax(curves.mean("recall"))) / curves.last
    return percentile_estimate(peak, peaks, 1 / curves.last)


def recall_in_controls(evidence: Evidence, lift: Estimate) -> tuple[Contrast, ...]:
    """Recall near the paper's depth with another image's captions (the lift) and in the controls."""
    other_recall = float(mean_near(evidence.curves.mean("recall_other"), PEAK))
    controls = contrasts(
        evidence.curves, evidence.controls, ("recall",), lambda means: mean_near(means["recall"], PEAK)
    )
    return (Contrast("other captions", other_recall, lift), *controls)
