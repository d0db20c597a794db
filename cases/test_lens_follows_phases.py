"""Section 3.3: recall peaks where phase III ends and phase IV begins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from phasebench import (
    Condition,
    Curves,
    Estimate,
    Evidence,
    Outcome,
    Verdict,
    estimate,
    finding,
    resampled_means,
    verdict,
)
from phasebench.judge.findings.layers import NEAR, largest_layers, nearness, peak_in_words
from phasebench.judge.findings.phase_fit import REFITS, PhaseFit, boundary_replicates
from phasebench.judge.findings.phase_verdict import four_phases_verdict
from phasebench.judge.findings.phases import FOUR
from phasebench.judge.statistics import ROUNDING, bootstrap_weights, percentile_estimate


@finding(
    claim="Recall peaks where phase III ends and phase IV begins.",
    source="section 3.3",
    needs=("inter", "recall"),
    order=6,
)
def test_lens_follows_phases(evidence: Evidence) -> Verdict:
    """The peak of recall, which has lift, lies near the boundary of phases III and IV.

    The number is the peak's depth minus the boundary's. Its whole interval must be near 0. Without four
    phases there is no such boundary, and the verdict is that on four phases.
    """
    curves = evidence.curves
    fit = PhaseFit(curves)
    phases = four_phases_verdict(fit)
    if fit.chosen.pattern != FOUR:  # then there is no boundary to be near
        detail = f"no phase IV: inter has {fit.chosen}"
        return Verdict(
            phases.outcome, math.nan, math.nan, math.nan, detail,
            margin=phases.margin, images_needed=phases.images_needed,
        )  # fmt: skip
    recall, boundary = curves.mean("recall"), fit.chosen.boundaries[2]
    peak = int(np.nanargmax(recall))
    distance = peak_minus_boundary(curves, peak, boundary)
    lift = estimate(curves, ("lift",), lambda means: means["lift"][..., peak])
    # The limit lies between two layers, so that no layer is on it; at least one layer counts as near.
    near = (max(1, math.floor(NEAR * curves.last)) + 0.5) / curves.last
    nearby = Condition("nearness of the peak to the boundary", nearness(distance, 0.0, near))
    lifted = Condition("lift at the peak", lift)
    detail = f"{peak_in_words(recall, 'recall')}, phase IV begins at layer {boundary}; lift {lift.value:+.3f}"
    if np.nanmax(recall) <= ROUNDING:  # there is no peak to be near
        by_distance = verdict([lifted], detail)
    else:
        by_distance = verdict([nearby, lifted], detail)
        name = f"peak's depth minus that of phase IV's begin (must be within {near:.2g} of 0)"
        by_distance = replace(
            by_distance, subject=name, bound=math.nan,
            value=distance.value, low=distance.low, high=distance.high,
        )  # fmt: skip
    if by_distance.outcome is not Outcome.HOLDS or phases.outcome is Outcome.HOLDS:
        return by_distance
    return by_distance.undecided("the four phases are not sure", phases.margin, phases.images_needed)


def peak_minus_boundary(curves: Curves, peak: int, boundary: int) -> Estimate:
    """The distance in relative depth; its interval is from the peak and the phases of each resample."""
    draws = bootstrap_weights(list(curves.items.values()), REFITS)
    boundaries = boundary_replicates(resampled_means(curves, "inter", draws), FOUR)[:, 2]
    peaks = largest_layers(resampled_means(curves, "recall", draws))
    distance = (peak - boundary) / curves.last
    return percentile_estimate(distance, (peaks - boundaries) / curves.last, 1 / curves.last)
