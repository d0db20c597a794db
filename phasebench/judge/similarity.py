"""Findings on contextualization: Fig. 3 and Fig. 1 of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.contrast import Contrast, Means, contrasts
from phasebench.judge.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.phases import FOUR, WORDS, Phases, find_phases, fit_pattern, heights
from phasebench.judge.statistics import ROUNDING, Estimate, estimate, plain, resampled_means, weights

REFITS = 200
"""Resamples that are cut into phases anew; each costs some milliseconds."""
STABLE = 0.95
"""Share of the resamples in which a pattern must win for the answer to be decided."""
MODALITIES = ("inter", "intra_visual", "intra_text")


def judge_inter_below_intra(evidence: Evidence) -> Verdict:
    """Fig. 3: at every layer from 1 on, inter < min(intra_visual, intra_text).

    The number is the smallest margin over layers, with its bootstrap interval.
    """
    margin = _margins({name: evidence.curves.mean(name) for name in MODALITIES})
    drawn = weights(list(evidence.curves.items.values()))
    resamples = {name: resampled_means(evidence.curves, name, drawn) for name in MODALITIES}
    layer = int(margin.argmin()) + 1
    reversed_at = (np.flatnonzero(margin < 0) + 1).tolist()
    told = f"inter is higher at layers {_spans(reversed_at)}" if reversed_at else "nowhere reversed"
    condition = Condition(f"smallest margin at layer {layer}", estimate(margin.min(), _smallest(resamples)))
    beside = contrasts(evidence.curves, evidence.controls, MODALITIES, _smallest)
    return verdict([condition], told, beside)


def _margins(means: Means) -> Array:
    """min(intra) - inter at layers 1..L [..., L]."""
    inter, visual, text = (means[name][..., 1:] for name in MODALITIES)
    return np.asarray(np.minimum(visual, text) - inter, dtype=np.float64)


def _smallest(means: Means) -> Array:
    return np.asarray(_margins(means).min(axis=-1), dtype=np.float64)


def judge_four_phases(evidence: Evidence) -> Verdict:
    """Fig. 1: inter rises, falls, rises, falls. The number is the smallest interval's height.

    The pattern must win against the others, on the mean and in ``STABLE`` of the resamples, and
    every interval's height must exceed 0. Each resample is cut anew for the pattern and for the
    boundaries; heights are taken at the boundaries of the mean.
    """
    mean = evidence.curves.mean("inter")
    resamples = resampled_means(evidence.curves, "inter")[:REFITS]
    found = find_phases(mean)
    four = fit_pattern(mean, FOUR)
    of_heights = [
        estimate(height, column)
        for height, column in zip(heights(mean, four), heights(resamples, four).T, strict=True)
    ]
    shown = min(of_heights, key=lambda height: height.value)
    boundaries = _boundaries(found, resamples)
    data = {"phases": _phases_data(found, boundaries)}
    if not np.isfinite(resamples).all():
        few = f"{found}; too few images"
        return Verdict(Outcome.UNDECIDED, shown.value, shown.low, shown.high, few, data=data)
    share = float(np.mean([find_phases(row).pattern == FOUR for row in resamples]))
    outcome = _phases_outcome(found, share, of_heights)
    detail = f"{found}; {_boundaries_told(boundaries, len(mean) - 1)}"
    if found.pattern == FOUR:
        detail += "; heights " + ", ".join(f"{h.value:.3g} [{h.low:.3g}, {h.high:.3g}]" for h in of_heights)
    return Verdict(outcome, shown.value, shown.low, shown.high, detail, _phases_beside(evidence, four), data)


def _phases_beside(evidence: Evidence, four: Phases) -> tuple[Contrast, ...]:
    """The smallest height at the measured curve's boundaries, there and in each control."""

    def smallest(means: Means) -> Array:
        return np.asarray(heights(means["inter"], four).min(axis=-1), dtype=np.float64)

    def pattern(curves: Curves) -> str:
        return str(find_phases(curves.mean("inter")))

    return contrasts(evidence.curves, evidence.controls, ("inter",), smallest, pattern)


def _phases_outcome(found: Phases, share: float, of_heights: list[Estimate]) -> Outcome:
    if found.pattern != FOUR:
        return Outcome.DOES_NOT_HOLD if share <= 1 - STABLE else Outcome.UNDECIDED
    if share >= STABLE and all(height.low > ROUNDING for height in of_heights):
        return Outcome.HOLDS
    return Outcome.UNDECIDED


def boundary_replicates(resamples: Array, pattern: tuple[int, ...]) -> Array:
    """The boundaries of ``pattern`` in each resample [R, intervals - 1]; NaN where it has no values."""
    unknown = (np.nan,) * (len(pattern) - 1)
    rows = [fit_pattern(row, pattern).boundaries if np.isfinite(row).all() else unknown for row in resamples]
    return np.array(rows, dtype=np.float64)


def _boundaries(found: Phases, resamples: Array) -> list[Estimate]:
    """The layers at which one phase ends and the next begins."""
    replicates = boundary_replicates(resamples, found.pattern)
    return [estimate(layer, column) for layer, column in zip(found.boundaries, replicates.T, strict=True)]


def _phases_data(found: Phases, boundaries: list[Estimate]) -> dict[str, Any]:
    return {
        "pattern": [WORDS[sign] for sign in found.pattern],
        "layers": list(found.boundaries),
        "low": [plain(boundary.low, 6) for boundary in boundaries],
        "high": [plain(boundary.high, 6) for boundary in boundaries],
    }


def _boundaries_told(boundaries: list[Estimate], last: int) -> str:
    if not boundaries:
        return "no boundary"
    parts = [f"{b.value:.0f} [{b.low:.0f}, {b.high:.0f}] (depth {b.value / last:.2f})" for b in boundaries]
    return "at layers " + ", ".join(parts)


def _spans(layers: list[int]) -> str:
    """``[1, 2, 3, 7]`` -> ``1-3, 7``."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and layer == spans[-1][1] + 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


INTER_BELOW_INTRA = Finding(
    "inter_below_intra",
    "At every layer from 1 on, similarity between modalities is below that within each.",
    "Fig. 3",
    judge_inter_below_intra,
    MODALITIES,
)
FOUR_PHASES = Finding(
    "four_phases",
    "Similarity between modalities rises, falls, rises and falls with depth.",
    "Fig. 1, section 3.1",
    judge_four_phases,
    ("inter",),
)
