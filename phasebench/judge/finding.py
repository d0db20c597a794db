"""Findings and verdicts: a claim, how it is judged, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from phasebench.curves import Curves
from phasebench.judge.contrast import Contrast
from phasebench.judge.statistics import ROUNDING, Estimate, plain
from phasebench.names import PARTS


class Outcome(str, Enum):
    """What can come of judging a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Condition:
    """One inequality of a claim: ``estimate`` must exceed ``bound``."""

    what: str
    estimate: Estimate
    bound: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """Decided only when the whole interval lies on one side of the bound, by more than rounding."""
        if self.estimate.low > self.bound + ROUNDING:
            return Outcome.HOLDS
        if self.estimate.high < self.bound - ROUNDING:
            return Outcome.DOES_NOT_HOLD
        return Outcome.UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """The outcome for one model and dataset.

    Attributes:
        outcome: holds, does not hold or undecided.
        value, low, high: the number that decided, with its interval.
        detail: the number in words: which layer, which condition.
        controls: the finding's number where there is nothing to see, and whether it differs.
        data: more plain data for results and reports; no part of what is recorded.
    """

    outcome: Outcome
    value: float
    low: float
    high: float
    detail: str
    controls: tuple[Contrast, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; numbers to six digits, NaN as None."""
        numbers = {key: plain(getattr(self, key), 6) for key in ("value", "low", "high")}
        controls = {"controls": [contrast.as_dict() for contrast in self.controls]}
        return {"verdict": str(self.outcome), **numbers, "detail": self.detail, **controls}


@dataclass(frozen=True)
class Evidence:
    """What a finding is judged on."""

    curves: Curves
    controls: Mapping[str, Curves]


@dataclass(frozen=True)
class Finding:
    """A claim about the inside of a model.

    Attributes:
        id: its name in cases, tables and baselines.
        claim: one sentence.
        source: where the paper says it.
        judge: from the evidence to a verdict.
        needs: curves without which nothing can be judged.
    """

    id: str
    claim: str
    source: str
    judge: Callable[[Evidence], Verdict]
    needs: tuple[str, ...] = ()

    def verdict(self, evidence: Evidence) -> Verdict:
        """The judge's verdict; undecided where a curve that it needs has no value at all."""
        lacking = [name for name in self.needs if not np.isfinite(evidence.curves.array(name)).any()]
        if not lacking:
            return self.judge(evidence)
        whys = evidence.curves.provenance.get("unmeasured", {})
        part = next(part for part, curves in PARTS.items() if lacking[0] in curves)
        told = f"{', '.join(lacking)}: not measured; {whys.get(part, 'no image has a value')}"
        nan = math.nan
        return Verdict(Outcome.UNDECIDED, nan, nan, nan, told)


def verdict(conditions: Sequence[Condition], detail: str, controls: tuple[Contrast, ...] = ()) -> Verdict:
    """The verdict on a claim that needs all its conditions.

    One condition that fails decides; otherwise one that is undecided does. The number shown is the
    deciding condition's: the one with the least room above its bound, in interval widths.
    """
    ranking = [Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED, Outcome.HOLDS]
    worst = min(conditions, key=lambda c: (ranking.index(c.outcome), _room(c)))
    shown = worst.estimate
    wanting = [c.what for c in conditions if c is not worst and c.outcome is not Outcome.HOLDS]
    told = "; ".join([worst.what, *(f"also {what}" for what in wanting), detail])
    return Verdict(worst.outcome, shown.value, shown.low, shown.high, told, controls)


def _room(condition: Condition) -> float:
    width = condition.estimate.high - condition.estimate.low
    room = condition.estimate.value - condition.bound
    return room / width if width > 0 else math.copysign(math.inf, room)
