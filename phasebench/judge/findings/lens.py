"""Findings on LogitLens recall: Fig. 5 of the paper."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from phasebench.curves import Array
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.findings.phase_fit import REFITS, PhaseFit, boundary_replicates
from phasebench.judge.findings.phases import FOUR, Phases
from phasebench.judge.findings.similarity import four_verdict
from phasebench.judge.statistics import (
    ROUNDING,
    SEED,
    Estimate,
    estimate,
    estimates,
    percentile,
    resampled_means,
    weights,
)

PEAK_DEPTH = 33 / 40
"""The paper's peak: layer 33 of 40."""
NEAR = 0.1
"""How far from it, in relative depth, still counts as near."""


def judge_lens_recall_peak(evidence: Evidence) -> Verdict:
    """Fig. 5: recall rises through the middle, peaks near depth 33/40, then falls; with lift.

    Needs: lift there above 0; recall there above that at a quarter of the depth and above the last
    layer's; the peak's depth within ``NEAR`` and half a layer of 0.825. 'There' is the mean over the
    layers within ``NEAR`` of 0.825, fixed beforehand: a peak chosen on the same images would flatter itself.
    """
    curves = evidence.curves
    mean = curves.mean("recall")
    last, peak = curves.last, int(np.nanargmax(mean))
    depth = percentile(peak / last, peaks(resampled_means(curves, "recall")) / last, 1 / last)
    quarter = round(last / 4)
    within = NEAR + 0.5 / last + 2 * ROUNDING  # a layer on the very edge is near
    lift = estimate(curves, ("lift",), lambda means: _near(means["lift"]))
    rise, fall = estimates(
        curves,
        ("recall",),
        lambda means: _near(means["recall"])[..., None] - means["recall"][..., [quarter, last]],
    )
    conditions = [
        Condition("lift near depth 0.825", lift),
        Condition("recall near depth 0.825 above a quarter of the depth", rise),
        Condition("recall near depth 0.825 above the last layer", fall),
        Condition("nearness of the peak to depth 0.825", _nearness(depth, PEAK_DEPTH, within)),
    ]
    near = f"{depth.value:.2f} [{depth.low:.2f}, {depth.high:.2f}]"
    detail = f"recall {mean[peak]:.3f} at layer {peak} of {last} (depth {near})"
    return verdict(conditions, detail, _recall_in_controls(evidence, lift))


def _near(curve: Array) -> Array:
    """Mean over the layers within ``NEAR`` of the paper's depth [...]; of few layers the nearest."""
    away = np.abs(np.arange(curve.shape[-1]) / (curve.shape[-1] - 1) - PEAK_DEPTH)
    away = away.round(9)  # some layers lie on the edge
    return np.asarray(curve[..., away <= max(NEAR, away.min())].mean(axis=-1), dtype=np.float64)


def peaks(resamples: Array) -> Array:
    """The layer of each resample's largest value [R], any of several; NaN where it has none.

    A curve that is flat, as where nothing is decoded, then has its peak anywhere.
    """
    known = np.isfinite(resamples).any(axis=1)
    filled = np.where(np.isfinite(resamples), resamples, -np.inf)
    largest = filled == filled.max(axis=1, keepdims=True)
    drawn = np.random.default_rng(SEED).random(filled.shape)
    return np.where(known, np.where(largest, drawn, -1.0).argmax(axis=1).astype(np.float64), np.nan)


def _nearness(depth: Estimate, target: float, near: float) -> Estimate:
    """``near`` minus the distance to ``target``: above 0 when near."""
    distances = sorted(abs(edge - target) for edge in (depth.low, depth.high))
    nearest = 0.0 if depth.low <= target <= depth.high else distances[0]
    value = near - abs(depth.value - target)
    return Estimate(value, near - distances[1], near - nearest, depth.error, depth.fixed)


def _recall_in_controls(evidence: Evidence, lift: Estimate) -> tuple[Contrast, ...]:
    """Recall near the paper's depth: of other captions (the lift, image by image) and in the controls."""
    other = float(_near(evidence.curves.mean("recall_other")))
    controls = contrasts(
        evidence.curves, evidence.controls, ("recall",), lambda means: _near(means["recall"])
    )
    return (Contrast("other captions", other, lift), *controls)


def judge_lens_follows_phases(evidence: Evidence) -> Verdict:
    """Section 3.3: recall peaks at the boundary of phases III and IV.

    The number is the peak's depth minus the boundary's. The claim is that they lie near each other, so the
    interval's far end must be near too; without four phases there is no such boundary.
    """
    curves = evidence.curves
    fit = PhaseFit(curves)
    found, phases = fit.chosen, four_verdict(fit)
    if found.pattern != FOUR:
        return _no_boundary(phases, found)
    drawn = weights(list(curves.items.values()), REFITS)
    last, peak = curves.last, int(np.nanargmax(curves.mean("recall")))
    boundaries = boundary_replicates(resampled_means(curves, "inter", drawn), FOUR)[:, 2]
    moved = (peaks(resampled_means(curves, "recall", drawn)) - boundaries) / last
    apart = percentile((peak - found.boundaries[2]) / last, moved, 1 / last)
    lift = estimate(curves, ("lift",), lambda means: means["lift"][..., peak])
    conditions = [
        Condition("nearness of the peak to the boundary", _nearness(apart, 0.0, _whole_layers(last))),
        Condition("lift at the peak", lift),
    ]
    begins = found.boundaries[2]
    detail = f"recall peaks at layer {peak}, phase IV begins at layer {begins}; lift {lift.value:+.3f}"
    judged = replace(verdict(conditions, detail), value=apart.value, low=apart.low, high=apart.high)
    if judged.outcome is not Outcome.HOLDS or phases.outcome is Outcome.HOLDS:
        return judged
    return judged.undecided("the four phases are not sure", phases.margin, phases.images_needed)


def _whole_layers(last: int) -> float:
    """``NEAR`` between two layers, so that none lies on its edge; at least one layer is near."""
    return (max(1, math.floor(NEAR * last)) + 0.5) / last


def _no_boundary(phases: Verdict, found: Phases) -> Verdict:
    """As sure as that there are no four phases."""
    nan = math.nan
    detail = f"no phase IV: inter has {found}"
    return Verdict(phases.outcome, nan, nan, nan, detail, (), {}, phases.margin, phases.images_needed)


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
