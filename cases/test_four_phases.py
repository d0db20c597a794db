"""Fig. 1: similarity between modalities rises, falls, rises and falls with depth."""

from __future__ import annotations

from dataclasses import replace

from phasebench import Evidence, Verdict, finding
from phasebench.judge.findings.phase_fit import PhaseFit, boundary_estimates
from phasebench.judge.findings.phase_verdict import (
    four_phases_verdict,
    phases_as_data,
    phases_in_controls,
    phases_in_words,
)


@finding(
    claim="Similarity between modalities rises, falls, rises and falls with depth.",
    source="Fig. 1, section 3.1",
    needs=("inter",),
    order=2,
)
def test_four_phases(evidence: Evidence) -> Verdict:
    """The mean inter curve has four phases, each higher than noise and than rounding.

    The number is the height with the smallest z-score. ``judge/findings/phase_fit.py`` has the four steps in
    which the phases are determined.
    """
    fit = PhaseFit(evidence.curves)
    boundaries = boundary_estimates(evidence.curves, fit.chosen)
    by_height = four_phases_verdict(
        fit, phases_in_words(fit, boundaries), phases_in_controls(evidence, fit.judged)
    )
    return replace(by_height, data={"phases": phases_as_data(fit.chosen, boundaries)})
