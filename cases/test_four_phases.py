"""Fig. 1: similarity between modalities rises, falls, rises and falls with depth."""

from __future__ import annotations

from dataclasses import replace

from phasebench import Evidence, Verdict, finding
from phasebench.judge.findings.layers import without_layer_0
from phasebench.judge.findings.phase_fit import PhaseFit, boundary_estimates
from phasebench.judge.findings.phase_verdict import (
    four_phases_verdict,
    near_paper,
    near_paper_in_words,
    phases_as_data,
    phases_in_controls,
    phases_in_words,
)
from phasebench.judge.findings.phases import FOUR


@finding(
    claim="Similarity between modalities rises, falls, rises and falls with depth.",
    source="Fig. 1, section 3.1",
    needs=("inter",),
    order=2,
)
def test_four_phases(evidence: Evidence) -> Verdict:
    """The mean inter curve has four phases, each higher than noise and than rounding.

    The number is the height with the smallest z-score. ``judge/findings/phase_fit.py`` has the three steps in
    which the phases are determined. Layer 0 counts: the paper's first phase begins with what enters block 1.
    Shown, but not needed: whether the boundaries lie near the paper's, and the verdict from layer 1 on.
    """
    fit = PhaseFit(evidence.curves)
    boundaries = boundary_estimates(evidence.curves, fit.chosen)
    near = near_paper(boundaries, evidence.curves.last) if fit.chosen.pattern == FOUR else []
    later = four_phases_verdict(PhaseFit(without_layer_0(evidence.curves))).outcome
    remarks = [phases_in_words(fit, boundaries), *([near_paper_in_words(near)] if near else [])]
    detail = "; ".join([*remarks, f"from layer 1 on: {later}"])
    by_height = four_phases_verdict(fit, detail, phases_in_controls(evidence, fit.judged))
    near_data = {"near_paper": [str(condition.outcome) for condition in near], "from_layer_1": str(later)}
    return replace(by_height, data={"phases": phases_as_data(fit.chosen, boundaries) | near_data})
