"""The verdict on four phases, and phases in words: shared by the findings on phases and on the lens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.findings.contrast import Contrast, contrasts
from phasebench.judge.findings.finding import Evidence
from phasebench.judge.findings.layers import interval_in_words, near_limit, nearness
from phasebench.judge.findings.phase_fit import JOINT_Z, PhaseFit, joint_z
from phasebench.judge.findings.phases import FOUR, WORDS, Phases, heights
from phasebench.judge.findings.verdict import Condition, Outcome, Verdict, verdict
from phasebench.judge.statistics import Estimate, Means, rounded_number


def four_phases_verdict(fit: PhaseFit, detail: str = "", controls: tuple[Contrast, ...] = ()) -> Verdict:
    """The verdict on four phases, from their heights.

    Each of the four heights is a condition. The claim does not hold if a longer pattern refutes
    it. It is undecided if the four may be chance, or part of a longer pattern (``phase_fit``).
    """
    depths = ", ".join(f"{layer / max(1, fit.curves.last):.2f}" for layer in fit.judged.boundaries)
    conditions = [
        Condition(f"{name} (phases end at depths {depths})", height, fit.min_height, family=name)
        for number, height in enumerate(fit.heights, start=1)
        for name in (f"height of phase {number}",)
    ]
    by_height = verdict(conditions, detail, controls)
    if by_height.outcome is not Outcome.HOLDS:
        return by_height
    if fit.refuting:
        more = f"lowest of {len(fit.refuting.pattern)} sure phases"
        return replace(by_height, outcome=Outcome.DOES_NOT_HOLD, subject=more, bound=math.nan)
    excess = joint_z(fit.heights, fit.min_height) - JOINT_Z
    if excess <= 0:
        reason = "all but the largest height, taken together, may be the curve's own wander or noise"
        return by_height.undecided(reason, excess, fit.images_to_join())
    if fit.rival:
        reason = f"{fit.rival} fits better, by {fit.gain(fit.rival):.2g} of what four phases bring over fewer"
        return by_height.undecided(reason, math.nan, fit.images_to_refute())
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


PAPER_DEPTHS = (3 / 40, 10 / 40, 33 / 40)
"""Depths of the paper's boundaries: layers 3, 10 and 33 of 40."""


def phases_in_words(fit: PhaseFit, boundaries: list[Estimate]) -> str:
    """Pattern, a small extra phase if there is one, boundaries with their depths, and heights."""
    numbers = ", ".join(f"{h.value:.3g}{interval_in_words(h)}" for h in fit.heights)
    extra = f" with {fit.wiggle}" if fit.wiggle and fit.chosen.pattern == FOUR else ""
    return f"{fit.chosen}{extra}; {_boundaries_in_words(boundaries, fit.curves.last)}; heights {numbers}"


def _boundaries_in_words(boundaries: list[Estimate], last: int) -> str:
    if not boundaries:
        return "no boundary"
    parts = [f"{b.value:.0f}{interval_in_words(b)} (depth {b.value / last:.2f})" for b in boundaries]
    return "at layers " + ", ".join(parts)


def near_paper(boundaries: list[Estimate], last: int) -> list[Condition]:
    """Whether each of three boundaries lies near the paper's depth; values in layers.

    The phases' names are claims about depth ("early alignment"), which the pattern alone does not test. These
    conditions are shown beside the verdict, but it does not need them.
    """
    return [
        Condition(
            f"boundary {number} near layer {depth * last:.3g}",
            nearness(b, depth * last, near_limit(last) * last),
        )
        for number, (b, depth) in enumerate(zip(boundaries, PAPER_DEPTHS, strict=True), start=1)
    ]


def near_paper_in_words(conditions: Sequence[Condition]) -> str:
    """``2 of 3 boundaries near the paper's depths (...)``."""
    near = sum(condition.outcome is Outcome.HOLDS for condition in conditions)
    depths = ", ".join(f"{depth:.3g}" for depth in PAPER_DEPTHS)
    return f"{near} of {len(conditions)} boundaries near the paper's depths {depths}"


def phases_as_data(phases: Phases, boundaries: list[Estimate]) -> dict[str, Any]:
    """Pattern and boundaries as plain data, for results and figures."""
    return {
        "pattern": [WORDS[sign] for sign in phases.pattern],
        "layers": list(phases.boundaries),
        "low": [rounded_number(boundary.low, 6) for boundary in boundaries],
        "high": [rounded_number(boundary.high, 6) for boundary in boundaries],
    }
