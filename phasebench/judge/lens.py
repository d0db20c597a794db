"""Findings on LogitLens recall: Fig. 5 of the paper."""

from __future__ import annotations

import numpy as np

from phasebench.curves import Array
from phasebench.judge.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.phases import FOUR, find_phases, fit_pattern
from phasebench.judge.similarity import REFITS, boundary_replicates
from phasebench.judge.statistics import Estimate, estimate, resampled_means, weights

PEAK_DEPTH = 33 / 40
"""The paper's peak: layer 33 of 40."""
NEAR = 0.1
"""How far from it, in relative depth, still counts as near."""
WIDE = 0.3
"""An interval of depths wider than this decides nothing."""


def judge_lens_recall_peak(evidence: Evidence) -> Verdict:
    """Fig. 5: recall rises through the middle, peaks near depth 33/40, then falls; with lift.

    Needs: lift at the peak above 0; the peak above the value at a quarter of the depth; the peak
    above the last layer; the peak's depth within ``NEAR`` of 0.825.
    """
    drawn = weights(list(evidence.curves.items.values()))
    mean = evidence.curves.mean("recall")
    resamples = resampled_means(evidence.curves, "recall", drawn)
    lift = resampled_means(evidence.curves, "lift", drawn)
    last, peak = len(mean) - 1, int(np.nanargmax(mean))
    depth = estimate(peak / last, np.nanargmax(resamples, axis=1) / last)
    quarter = round(last / 4)
    conditions = [
        Condition("lift at the peak", estimate(evidence.curves.mean("lift")[peak], lift[:, peak])),
        Condition("peak above a quarter of the depth", _between(mean, resamples, peak, quarter)),
        Condition("peak above the last layer", _between(mean, resamples, peak, last)),
        Condition("nearness of the peak to depth 0.825", _nearness(depth)),
    ]
    near = f"{depth.value:.2f} [{depth.low:.2f}, {depth.high:.2f}]"
    told = f"recall {mean[peak]:.3f} at layer {peak} of {last} (depth {near})"
    return verdict(conditions, told, _recall_control(evidence, peak))


def _between(mean: Array, resamples: Array, peak: int, other: int) -> Estimate:
    return estimate(mean[peak] - mean[other], resamples[:, peak] - resamples[:, other])


def _nearness(depth: Estimate) -> Estimate:
    """``NEAR`` minus the distance to the paper's depth: above 0 when near."""
    distances = sorted(abs(edge - PEAK_DEPTH) for edge in (depth.low, depth.high))
    nearest = 0.0 if depth.low <= PEAK_DEPTH <= depth.high else distances[0]
    return Estimate(NEAR - abs(depth.value - PEAK_DEPTH), NEAR - distances[1], NEAR - nearest)


def _recall_control(evidence: Evidence, peak: int) -> str:
    parts = [f"other captions {evidence.curves.mean('recall_other')[peak]:.3f}"]
    parts += [f"{name} {curves.mean('recall')[peak]:.3f}" for name, curves in evidence.controls.items()]
    return ", ".join(parts)


def judge_lens_follows_phases(evidence: Evidence) -> Verdict:
    """Section 3.3: recall peaks at the boundary of phases III and IV.

    The number is the peak's depth minus the boundary's. It holds when its interval, widened by one
    layer, contains 0 and is not wider than ``WIDE``; without four phases there is no such boundary.
    """
    inter = evidence.curves.mean("inter")
    found = find_phases(inter)
    if found.pattern != FOUR:
        nan = float("nan")
        return Verdict(Outcome.DOES_NOT_HOLD, nan, nan, nan, f"no phase IV: inter has {found}")
    drawn = weights(list(evidence.curves.items.values()), REFITS)
    last = len(inter) - 1
    recall = resampled_means(evidence.curves, "recall", drawn)
    boundaries = boundary_replicates(resampled_means(evidence.curves, "inter", drawn), FOUR)[:, 2]
    peak, boundary = int(np.nanargmax(evidence.curves.mean("recall"))), fit_pattern(inter, FOUR).boundaries[2]
    apart = estimate((peak - boundary) / last, (np.nanargmax(recall, axis=1) - boundaries) / last)
    lift = estimate(
        evidence.curves.mean("lift")[peak], resampled_means(evidence.curves, "lift", drawn)[:, peak]
    )
    told = f"recall peaks at layer {peak}, phase IV begins at layer {boundary}; lift {lift.value:+.3f}"
    return Verdict(_apart_outcome(apart, lift, 1 / last), apart.value, apart.low, apart.high, told)


def _apart_outcome(apart: Estimate, lift: Estimate, layer: float) -> Outcome:
    if apart.low > layer or apart.high < -layer or lift.high < 0:
        return Outcome.DOES_NOT_HOLD
    if apart.high - apart.low > WIDE or lift.low <= 0:
        return Outcome.UNDECIDED
    return Outcome.HOLDS


LENS_RECALL_PEAK = Finding(
    "lens_recall_peak",
    "Recall of caption words rises through the middle, peaks near depth 33/40 = 0.825 and falls.",
    "Fig. 5, section 3.3",
    judge_lens_recall_peak,
)
LENS_FOLLOWS_PHASES = Finding(
    "lens_follows_phases",
    "Recall peaks where phase III ends and phase IV begins.",
    "section 3.3",
    judge_lens_follows_phases,
)
