"""Findings on contextualization: Fig. 3 and Fig. 1 of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.contrast import Contrast, contrasts
from phasebench.judge.cuts import (
    LONGER,
    TOGETHER,
    boundary_estimates,
    height_estimates,
    images_apart,
    images_together,
    phases_of,
    rival,
    rival_room,
    smaller,
    smallest,
)
from phasebench.judge.finding import Condition, Evidence, Finding, Outcome, Verdict, verdict
from phasebench.judge.phases import FOUR, WORDS, Phases, fit_pattern, heights
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
    told = f"inter is higher at layers {_spans(reversed_at)}" if reversed_at else "nowhere reversed"
    least = int(np.nanargmin([margin.value for margin in found]))
    beside = contrasts(
        evidence.curves, evidence.controls, MODALITIES, lambda means: _flat(_margins(means))[..., least]
    )
    return verdict(conditions, told, beside)


def _margins(means: Means) -> Array:
    """Each intra minus inter at layers 1..L [..., L, 2]."""
    inter, *within = (means[name][..., 1:] for name in MODALITIES)
    return np.stack([intra - inter for intra in within], axis=-1)


def _flat(margins: Array) -> Array:
    return margins.reshape(*margins.shape[:-2], -1)


def judge_four_phases(evidence: Evidence) -> Verdict:
    """Fig. 1: inter rises, falls, rises, falls. The number is the height with the least room.

    Each of the four heights, at the boundaries that fit best, must exceed what is called a phase
    (``cuts.smallest``). Where more phases are each beyond chance, four are not the answer.
    """
    curves = evidence.curves
    found = phases_of(curves)
    judged, conditions = height_conditions(curves, found)
    boundaries = boundary_estimates(curves, found)
    detail = _told(found, boundaries, conditions, curves.last)
    told = four_verdict(curves, found, conditions, detail, _phases_beside(evidence, judged))
    return replace(told, data={"phases": _phases_data(found, boundaries)})


def height_conditions(curves: Curves, found: Phases) -> tuple[Phases, list[Condition]]:
    """Which intervals are judged, the four or more that were found, and that each be a phase."""
    mean = curves.mean("inter")
    judged = found if found.pattern in (FOUR, *LONGER) else fit_pattern(mean, FOUR)
    conditions = [
        Condition(f"height of phase {number}", height, smallest(mean))
        for number, height in enumerate(height_estimates(curves, judged), start=1)
    ]
    return judged, conditions


def four_verdict(
    curves: Curves,
    found: Phases,
    conditions: list[Condition],
    detail: str = "",
    beside: tuple[Contrast, ...] = (),
) -> Verdict:
    """What the heights say of four phases, unless more phases may as well be there."""
    told = heights_verdict(found, conditions, detail, beside)
    found_more = rival(curves) if told.outcome is Outcome.HOLDS else None
    if found_more is None:
        return told
    (more, rivals), bound = found_more, conditions[0].bound
    return replace(
        told,
        outcome=Outcome.UNDECIDED,
        detail=f"{more} fits better, and each of its heights is more than noise; {told.detail}",
        margin=-rival_room(rivals, bound),
        images_needed=images_apart(curves, rivals, bound),
    )


def heights_verdict(
    found: Phases, conditions: list[Condition], detail: str = "", beside: tuple[Contrast, ...] = ()
) -> Verdict:
    """What the heights' conditions say of four phases: more are not four, and four may be noise together."""
    told = verdict(conditions, detail, beside)
    if found.pattern in LONGER and told.outcome is Outcome.HOLDS:
        return replace(told, outcome=Outcome.DOES_NOT_HOLD)
    found_heights, bound = [condition.estimate for condition in conditions], conditions[0].bound
    lacking = smaller(found_heights, bound) - TOGETHER
    if told.outcome is not Outcome.HOLDS or lacking > 0:
        return told
    return replace(
        told,
        outcome=Outcome.UNDECIDED,
        detail=f"all but the largest height together are no more than chance makes; {told.detail}",
        margin=lacking,
        images_needed=images_together(found_heights, bound),
    )


def _phases_beside(evidence: Evidence, judged: Phases) -> tuple[Contrast, ...]:
    """The smallest height of the measured curve, between the same layers, there and in each control."""
    least = int(np.argmin(heights(evidence.curves.mean("inter"), judged)))

    def height(means: Means) -> Array:
        return heights(means["inter"], judged)[..., least]

    def pattern(curves: Curves) -> str:
        return str(phases_of(curves))

    return contrasts(evidence.curves, evidence.controls, ("inter",), height, pattern)


def _told(found: Phases, boundaries: list[Estimate], conditions: list[Condition], last: int) -> str:
    heights_told = [c.estimate for c in conditions]
    numbers = ", ".join(f"{h.value:.3g} [{h.low:.3g}, {h.high:.3g}]" for h in heights_told)
    return f"{found}; {_boundaries_told(boundaries, last)}; heights {numbers}"


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
