"""Findings and verdicts: a claim, how it is judged, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from phasebench.catalog import PARTS
from phasebench.curves import Curves
from phasebench.errors import InputError
from phasebench.judge.findings.contrast import Contrast
from phasebench.judge.statistics import DOWN, MIN_ITEMS, ROUNDING, UP, Estimate, images_to_decide, plain


class Outcome(str, Enum):
    """What can come of judging a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


RANKING = (Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED, Outcome.HOLDS)
"""Worst first: of several conditions the worst decides."""


@dataclass(frozen=True)
class Condition:
    """One inequality of a claim: ``estimate`` must exceed ``bound``.

    Attributes:
        what: what it is about, in words.
        estimate: the number with its interval.
        bound: what it must exceed.
        family: what it has in common with others (the same at each layer), which are told as one.
    """

    what: str
    estimate: Estimate
    bound: float = 0.0
    family: str = ""

    @property
    def outcome(self) -> Outcome:
        """Decided only when the whole interval lies on one side of the bound, by more than rounding."""
        if self.estimate.low > self.bound + ROUNDING:
            return Outcome.HOLDS
        if self.estimate.high < self.bound - ROUNDING:
            return Outcome.DOES_NOT_HOLD
        return Outcome.UNDECIDED

    @property
    def z(self) -> float:
        """How far the value lies above the bound, in standard errors."""
        return _ratio(self.estimate.value - self.bound, self._error)

    @property
    def margin(self) -> float:
        """How far the interval lies beyond the bound, in standard errors; negative where it contains it."""
        above, below = self.estimate.low - self.bound, self.bound - self.estimate.high
        return _ratio(max(above, below) - ROUNDING, self._error)

    def images_needed(self, count: int) -> int | None:
        """How many images would decide it, if the value stayed; None where no number would, or nobody knows.

        It is one of ``count`` conditions of its claim.
        """
        found = self.estimate
        away = abs(found.value - self.bound) - ROUNDING
        side, count = (DOWN, 1) if found.value > self.bound else (UP, count)
        if not found.images or 0 < found.items < MIN_ITEMS or not math.isfinite(found.error):
            return None

        return images_to_decide(
            found.images, lambda images: away > found.with_images(images).half_width(side, count)
        )

    @property
    def _error(self) -> float:
        return math.hypot(self.estimate.error, self.estimate.fixed, ROUNDING)


def _ratio(distance: float, error: float) -> float:
    return distance / error if error > 0 else math.copysign(math.inf, distance)


@dataclass(frozen=True)
class Verdict:
    """The outcome for one model and dataset.

    Attributes:
        outcome: holds, does not hold or undecided.
        value, low, high: the number that decided, with its interval.
        detail: the number in words: which layer, which condition.
        controls: the finding's number where there is nothing to see, and whether it differs.
        data: more plain data for results and reports; no part of what is recorded.
        margin: how far the deciding end of the interval lies beyond its bound, in standard errors, so how
            far the verdict is from flipping; negative where undecided; NaN or infinite without an error.
        images_needed: of an undecided verdict, how many images would decide it if the number stayed;
            None where no number would.
    """

    outcome: Outcome
    value: float
    low: float
    high: float
    detail: str
    controls: tuple[Contrast, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    margin: float = math.nan
    images_needed: int | None = None

    def undecided(self, why: str, margin: float, images_needed: int | None) -> Verdict:
        """The same number, which for some other reason decides nothing."""
        return replace(
            self,
            outcome=Outcome.UNDECIDED,
            detail=f"{why}; {self.detail}",
            margin=margin,
            images_needed=images_needed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data; numbers to six digits, NaN and infinity as None."""
        numbers = {key: plain(getattr(self, key), 6) for key in ("value", "low", "high")}
        return {
            "verdict": str(self.outcome),
            **numbers,
            "margin": plain(self.margin, 3) if math.isfinite(self.margin) else None,
            "images_needed": self.images_needed,
            "detail": self.detail,
            "controls": [contrast.as_dict() for contrast in self.controls],
        }


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
        """The judge's verdict; undecided where a curve that it needs has no value at all.

        Raises:
            InputError: the judge gives something else.
        """
        lacking = [name for name in self.needs if not np.isfinite(evidence.curves.array(name)).any()]
        if not lacking:
            found = self.judge(evidence)
            if not isinstance(found, Verdict):
                raise InputError(f"finding {self.id}: its judge should give a Verdict, not {found!r:.80}")
            return found
        whys = evidence.curves.provenance.get("unmeasured", {})
        part = next(part for part, curves in PARTS.items() if lacking[0] in curves)
        detail = f"{', '.join(lacking)}: not measured; {whys.get(part, 'no image has a value')}"
        nan = math.nan
        return Verdict(Outcome.UNDECIDED, nan, nan, nan, detail)


def verdict(conditions: Sequence[Condition], detail: str, controls: tuple[Contrast, ...] = ()) -> Verdict:
    """The verdict on a claim that needs all its conditions.

    It holds when each condition holds by itself: a claim that is wrong has a condition that is wrong, so that
    no correction is needed (intersection-union). It does not hold when one fails, whose interval is corrected
    for their number (Bonferroni). The number shown is the deciding condition's, with its own interval: of the
    worst outcome the one with the least room above its bound, in standard errors.

    Raises:
        InputError: there is no condition.
    """
    if not conditions:
        raise InputError("verdict: a claim needs a condition at least")
    judged = [replace(c, estimate=c.estimate.corrected(len(conditions))) for c in conditions]
    worst, shown = min(
        zip(judged, (c.estimate for c in conditions), strict=True),
        key=lambda pair: (RANKING.index(pair[0].outcome), pair[0].z),
    )
    wanting = (c.family or c.what for c in judged if c.outcome is not Outcome.HOLDS)
    others = dict.fromkeys(what for what in wanting if what not in (worst.what, worst.family))
    words = "; ".join([worst.what, *(f"also {what}" for what in others), *([detail] if detail else [])])
    if worst.outcome is Outcome.UNDECIDED and shown.high < worst.bound:
        words = f"below {worst.bound:.3g} by itself, but not as one of {len(judged)} conditions: {words}"
    needed = worst.images_needed(len(judged)) if worst.outcome is Outcome.UNDECIDED else None
    return Verdict(
        worst.outcome, shown.value, shown.low, shown.high, words, controls, {}, worst.margin, needed
    )
