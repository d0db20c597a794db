"""The verdict on four phases, and phases in words: shared by the findings on phases and on the lens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import Evidence
from phasebench.judge.findings.phase_fit import JOINT_Z, LONGER, PhaseFit, joint_z
from phasebench.judge.findings.phases import WORDS, Phases, heights
from phasebench.judge.findings.verdict import Condition, Outcome, Verdict, verdict
from phasebench.judge.statistics import Estimate, Means, rounded_number


def four_phases_verdict(fit: PhaseFit, detail: str = "", controls: tuple[Contrast, ...] = ()) -> Verdict:
    """The verdict on four phases, from their heights.

    Each of the four heights is a condition. The claim does not hold if more than four phases are sure. It is
    undecided if the four may be chance, or part of more phases (``phase_fit``, steps 2 to 4).
    """
    conditions = [
        Condition(f"height of phase {number}", height, fit.min_height)
        for number, height in enumerate(fit.heights, start=1)
    ]
    by_height = verdict(conditions, detail, controls)
    if by_height.outcome is not Outcome.HOLDS:
        return by_height
    if fit.judged.pattern in LONGER:
        return replace(by_height, outcome=Outcome.DOES_NOT_HOLD)
    excess = joint_z(fit.heights, fit.min_height) - JOINT_Z
    if excess <= 0:
        reason = "all but the largest height, taken together, are within chance"
        return by_height.undecided(reason, excess, fit.images_to_join())
    if fit.competitor:
        reason = f"{fit.competitor} fits better, and each of its heights is more than noise"
        images = fit.images_to_settle(fit.competitor)
        return by_height.undecided(reason, -fit.lowest_z(fit.competitor), images)
    return by_height


def phases_in_controls(evidence: Evidence, phases: Phases) -> tuple[Contrast, ...]:
    """The smallest height of the measured curve, and the height between the same layers in each control."""
    smallest = int(np.argmin(heights(evidence.curves.mean("inter"), phases)))

    def height(means: Means) -> Array:
        return heights(means["inter"], phases)[..., smallest]

    def pattern(curves: Curves) -> str:
        return str(PhaseFit(curves).chosen)

    quantity = f"height of phase {smallest + 1}"
    return contrasts(evidence.curves, evidence.controls, ("inter",), height, pattern, quantity)


def phases_in_words(fit: PhaseFit, boundaries: list[Estimate]) -> str:
    """Pattern, boundaries with their depths, and heights, each with its interval."""
    numbers = ", ".join(f"{h.value:.3g} [{h.low:.3g}, {h.high:.3g}]" for h in fit.heights)
    return f"{fit.chosen}; {_boundaries_in_words(boundaries, fit.curves.last)}; heights {numbers}"


def _boundaries_in_words(boundaries: list[Estimate], last: int) -> str:
    if not boundaries:
        return "no boundary"
    parts = [f"{b.value:.0f} [{b.low:.0f}, {b.high:.0f}] (depth {b.value / last:.2f})" for b in boundaries]
    return "at layers " + ", ".join(parts)


def phases_as_data(phases: Phases, boundaries: list[Estimate]) -> dict[str, Any]:
    """Pattern and boundaries as plain data, for results and figures."""
    return {
        "pattern": [WORDS[sign] for sign in phases.pattern],
        "layers": list(phases.boundaries),
        "low": [rounded_number(boundary.low, 6) for boundary in boundaries],
        "high": [rounded_number(boundary.high, 6) for boundary in boundaries],
    }
