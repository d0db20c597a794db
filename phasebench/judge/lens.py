"""Findings on LogitLens recall: Fig. 5 of the paper."""

from __future__ import annotations

import numpy as np

from phasebench.curves import Array
from phasebench.judge.contrast import Contrast, contrasts
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

    Needs: lift there above 0; recall there above that at a quarter of the depth and above the last
    layer's; the peak's depth within ``NEAR`` of 0.825. 'There' is the mean over the layers within
    ``NEAR`` of 0.825, fixed beforehand: a peak chosen on the same images would flatter itself.
    """
    mean = evidence.curves.mean("recall")
    drawn = weights(list(evidence.curves.items.values()))
    resamples = resampled_means(evidence.curves, "recall", drawn)
    lifts = resampled_means(evidence.curves, "lift", drawn)
    lift = estimate(float(_near(evidence.curves.mean("lift"))), _near(lifts))
    last, peak = len(mean) - 1, int(np.nanargmax(mean))
    depth = estimate(peak / last, peaks(resamples) / last)
    quarter = round(last / 4)
    conditions = [
        Condition("lift near depth 0.825", lift),
        Condition(
            "recall near depth 0.825 above a quarter of the depth",
            estimate(float(_near(mean)) - mean[quarter], _near(resamples) - resamples[:, quarter]),
        ),
        Condition(
            "recall near depth 0.825 above the last layer",
            estimate(float(_near(mean)) - mean[-1], _near(resamples) - resamples[:, -1]),
        ),
        Condition("nearness of the peak to depth 0.825", _nearness(depth)),
    ]
    near = f"{depth.value:.2f} [{depth.low:.2f}, {depth.high:.2f}]"
    told = f"recall {mean[peak]:.3f} at layer {peak} of {last} (depth {near})"
    return verdict(conditions, told, _recall_beside(evidence, lift))


def _near(curve: Array) -> Array:
    """Mean over the layers within ``NEAR`` of the paper's depth [...]; of few layers the nearest."""
    away = np.abs(np.arange(curve.shape[-1]) / (curve.shape[-1] - 1) - PEAK_DEPTH)
    return np.asarray(curve[..., away <= max(NEAR, away.min())].mean(axis=-1), dtype=np.float64)


def peaks(resamples: Array) -> Array:
    """The layer of each resample's largest value [R]; NaN where it has none."""
    known = np.isfinite(resamples).any(axis=1)
    filled = np.where(np.isfinite(resamples), resamples, -np.inf)
    return np.where(known, filled.argmax(axis=1).astype(np.float64), np.nan)


def _nearness(depth: Estimate) -> Estimate:
    """``NEAR`` minus the distance to the paper's depth: above 0 when near."""
    distances = sorted(abs(edge - PEAK_DEPTH) for edge in (depth.low, depth.high))
    nearest = 0.0 if depth.low <= PEAK_DEPTH <= depth.high else distances[0]
    return Estimate(NEAR - abs(depth.value - PEAK_DEPTH), NEAR - distances[1], NEAR - nearest)


def _recall_beside(evidence: Evidence, lift: Estimate) -> tuple[Contrast, ...]:
    """Recall near the paper's depth: of other captions (the lift, image by image) and in the controls."""
    other = float(_near(evidence.curves.mean("recall_other")))
    beside = contrasts(evidence.curves, evidence.controls, ("recall",), lambda means: _near(means["recall"]))
    return (Contrast("other captions", other, lift), *beside)


def judge_lens_follows_phases(evidence: Evidence) -> Verdict:
    """Section 3.3: recall peaks at the boundary of phases III and IV.

    The number is the peak's depth minus the boundary's. It holds when its interval, widened by one
    layer, contains 0 and is not wider than ``WIDE``; without four phases there is no such boundary.
    """
    inter, recalls = evidence.curves.mean("inter"), evidence.curves.mean("recall")
    found = find_phases(inter)
    if found.pattern != FOUR:
        nan = float("nan")
        return Verdict(Outcome.DOES_NOT_HOLD, nan, nan, nan, f"no phase IV: inter has {found}")
    drawn = weights(list(evidence.curves.items.values()), REFITS)
    last = len(inter) - 1
    recall = resampled_means(evidence.curves, "recall", drawn)
    boundaries = boundary_replicates(resampled_means(evidence.curves, "inter", drawn), FOUR)[:, 2]
    peak, boundary = int(np.nanargmax(recalls)), fit_pattern(inter, FOUR).boundaries[2]
    apart = estimate((peak - boundary) / last, (peaks(recall) - boundaries) / last)
    lift = estimate(
        evidence.curves.mean("lift")[peak], resampled_means(evidence.curves, "lift", drawn)[:, peak]
    )
    told = f"recall peaks at layer {peak}, phase IV begins at layer {boundary}; lift {lift.value:+.3f}"
    return Verdict(_apart_outcome(apart, lift, 1 / last), apart.value, apart.low, apart.high, told)


def _apart_outcome(apart: Estimate, lift: Estimate, layer: float) -> Outcome:
    if apart.low > layer or apart.high < -layer or lift.high < 0:
        return Outcome.DOES_NOT_HOLD
    decided = apart.high - apart.low <= WIDE and lift.low > 0  # False also where either is NaN
    return Outcome.HOLDS if decided else Outcome.UNDECIDED


LENS_RECALL_PEAK = Finding(
    "lens_recall_peak",
    "Recall of caption words rises through the middle, peaks near depth 33/40 = 0.825 and falls.",
    "Fig. 5, section 3.3",
    judge_lens_recall_peak,
    ("recall",),
)
LENS_FOLLOWS_PHASES = Finding(
    "lens_follows_phases",
    "Recall peaks where phase III ends and phase IV begins.",
    "section 3.3",
    judge_lens_follows_phases,
    ("inter", "recall"),
)
