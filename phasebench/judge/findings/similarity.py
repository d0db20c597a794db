"""Findings on contextualization: Fig. 3 and Fig. 1 of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.findings.phase_fit import JOINT_Z, LONGER, PhaseFit, boundary_estimates, joint_z
from phasebench.judge.findings.phases import WORDS, Phases, heights
from phasebench.judge.statistics import Estimate, Means, estimates, plain

MODALITIES = ("inter", "intra_visual", "intra_text")
WITHIN = MODALITIES[1:]


def judge_inter_below_intra(evidence: Evidence) -> Verdict:
    """Fig. 3: at every layer from 1 on, inter < min(intra_visual, intra_text).

    Each layer and modality is a condition of its own: the smallest of many margins, taken as one number,
    would lie too low by chance. The number is the margin with the least room, in standard errors.
    """
    found = estimates(evidence.curves, MODALITIES, lambda means: _flat(_margins(means)))
    places = [(layer, name) for layer in range(1, evidence.curves.last + 1) for name in WITHIN]
    conditions = [
        Condition(f"margin to {name} at layer {layer}", margin, family="margin")
        for (layer, name), margin in zip(places, found, strict=True)
    ]
    reversed_at = sorted(
        {layer for (layer, _), margin in zip(places, found, strict=True) if margin.value < 0}
    )
    detail = f"inter is higher at layers {_spans(reversed_at)}" if reversed_at else "nowhere reversed"
    least = int(np.nanargmin([margin.value for margin in found]))
    controls = contrasts(
        evidence.curves, evidence.controls, MODALITIES, lambda means: _flat(_margins(means))[..., least]
    )
    return verdict(conditions, detail, controls)


def _margins(means: Means) -> Array:
    """Each intra minus inter at layers 1..L [..., L, 2]."""
    inter, *within = (means[name][..., 1:] for name in MODALITIES)
    return np.stack([intra - inter for intra in within], axis=-1)


def _flat(margins: Array) -> Array:
    """[..., L, 2] -> [..., 2 L], layer by layer."""
    return margins.reshape(*margins.shape[:-2], -1)


def judge_four_phases(evidence: Evidence) -> Verdict:
    """Fig. 1: inter rises, falls, rises, falls. The number is the height with the least room.

    ``phase_fit`` says in four steps how the verdict comes about.
    """
    fit = PhaseFit(evidence.curves)
    boundaries = boundary_estimates(evidence.curves, fit.chosen)
    judged = four_verdict(fit, _phases_in_words(fit, boundaries), _phases_in_controls(evidence, fit.judged))
    return replace(judged, data={"phases": _phases_data(fit.chosen, boundaries)})


def four_verdict(fit: PhaseFit, detail: str = "", controls: tuple[Contrast, ...] = ()) -> Verdict:
    """What the heights say of four phases: more are not four, and four may be noise or a part of more."""
    conditions = [
        Condition(f"height of phase {number}", height, fit.min_height)
        for number, height in enumerate(fit.heights, start=1)
    ]
    found = verdict(conditions, detail, controls)
    if found.outcome is not Outcome.HOLDS:
        return found
    if fit.judged.pattern in LONGER:
        return replace(found, outcome=Outcome.DOES_NOT_HOLD)
    lacking = joint_z(fit.heights, fit.min_height) - JOINT_Z
    if lacking <= 0:
        why = "all but the largest height, taken together, are within chance"
        return found.undecided(why, lacking, fit.images_to_join())
    if fit.competitor:
        why = f"{fit.competitor} fits better, and each of its heights is more than noise"
        return found.undecided(why, -fit.lowest_z(fit.competitor), fit.images_to_settle(fit.competitor))
    return found


def _phases_in_controls(evidence: Evidence, judged: Phases) -> tuple[Contrast, ...]:
    """The smallest height of the measured curve, between the same layers, there and in each control."""
    least = int(np.argmin(heights(evidence.curves.mean("inter"), judged)))

    def height(means: Means) -> Array:
        return heights(means["inter"], judged)[..., least]

    def pattern(curves: Curves) -> str:
        return str(PhaseFit(curves).chosen)

    return contrasts(evidence.curves, evidence.controls, ("inter",), height, pattern)


def _phases_in_words(fit: PhaseFit, boundaries: list[Estimate]) -> str:
    numbers = ", ".join(f"{h.value:.3g} [{h.low:.3g}, {h.high:.3g}]" for h in fit.heights)
    return f"{fit.chosen}; {_boundaries_in_words(boundaries, fit.curves.last)}; heights {numbers}"


def _phases_data(found: Phases, boundaries: list[Estimate]) -> dict[str, Any]:
    return {
        "pattern": [WORDS[sign] for sign in found.pattern],
        "layers": list(found.boundaries),
        "low": [plain(boundary.low, 6) for boundary in boundaries],
        "high": [plain(boundary.high, 6) for boundary in boundaries],
    }


def _boundaries_in_words(boundaries: list[Estimate], last: int) -> str:
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
