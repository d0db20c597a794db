"""The paper's six findings, by id."""

from __future__ import annotations

from phasebench.judge.findings.attention import ATTENTION_RISE_AND_DROP, ATTENTION_SINKS
from phasebench.judge.findings.finding import Finding
from phasebench.judge.findings.lens import LENS_FOLLOWS_PHASES, LENS_RECALL_PEAK
from phasebench.judge.findings.similarity import FOUR_PHASES, INTER_BELOW_INTRA

FINDINGS: dict[str, Finding] = {
    finding.id: finding
    for finding in (
        INTER_BELOW_INTRA,
        FOUR_PHASES,
        ATTENTION_SINKS,
        ATTENTION_RISE_AND_DROP,
        LENS_RECALL_PEAK,
        LENS_FOLLOWS_PHASES,
    )
}
