"""Verdicts: the conditions of a claim, each with its interval, and the outcome of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from phasebench.errors import InputError
from phasebench.judge.findings.contrast import Contrast
from phasebench.judge.statistics import (
    DOWN,
    MIN_ITEMS,
    ROUNDING,
    UP,
    Estimate,
    images_to_decide,
    rounded_number,
)


class Outcome(str, Enum):
    """The outcome of judging a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


RANKING = (Outcome.DOES_NOT_HOLD, Outcome.UNDECIDED, Outcome.HOLDS)
"""From worst to best: among several conditions the worst decides."""


@dataclass(frozen=True)
class Condition:
    """One inequality of a claim: ``estimate`` must exceed ``bound``.

    Attributes:
        subject: the number's name, in words.
        estimate: the number with its interval.
        bound: the value that it must exceed.
        family: the name that conditions of one kind share (the same at each layer); a verdict's detail
            mentions a family once.
    """

    subject: str
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
        """How far the interval lies beyond the bound, in standard errors; negative if the bound is inside."""
        above, below = self.estimate.low - self.bound, self.bound - self.estimate.high
        return _ratio(max(above, below) - ROUNDING, self._error)

    def images_needed(self, count: int) -> int | None:
        """How many images would decide the condition, as one of ``count``, if the value stayed the same.

        None if no number of images would, or if the error is unknown.
        """
        estimate = self.estimate
        distance = abs(estimate.value - self.bound) - ROUNDING
        side, count = (DOWN, 1) if estimate.value > self.bound else (UP, count)
        if not estimate.images or 0 < estimate.items < MIN_ITEMS or not math.isfinite(estimate.error):
            return None
        return images_to_decide(
            estimate.images, lambda images: distance > estimate.with_images(images).half_width(side, count)
        )

    @property
    def _error(self) -> float:
        return math.hypot(self.estimate.error, self.estimate.fixed, ROUNDING)


def _ratio(distance: float, error: float) -> float:
    return distance / error if error > 0 else math.copysign(math.inf, distance)


BUT = ", but "
"""Joins the deciding number's name and the reason why it does not decide."""


@dataclass(frozen=True)
class Verdict:
    """The outcome for one model and dataset.

    Attributes:
        outcome: holds, does not hold or undecided.
        value, low, high: the number that decided, with its interval.
        detail: the number in words: which layer, which condition.
        controls: the finding's number in each control, and whether the measured one differs from it.
        data: more plain data for results and reports; it is not part of the recorded verdict.
        margin: how far the deciding end of the interval lies beyond its bound, in standard errors: the
            distance to another verdict; negative if undecided; NaN or infinite without an error.
        images_needed: for an undecided verdict, how many images would decide it if the number stayed the
            same; None if no number would.
        subject: the deciding condition's name; empty if no condition decided.
        bound: the value that the number must exceed; NaN if it has no such bound.
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
    subject: str = ""
    bound: float = math.nan

    @property
    def line(self) -> str:
        """The number in words: ``late layers minus the last few: -0.2 [-0.3, -0.1] (must be above 0)``.

        Empty without a number; ``detail`` then gives the reason.
        """
        if not self.subject or math.isnan(self.value):
            return ""
        interval = "" if math.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        bound = "" if math.isnan(self.bound) else f" (must be above {self.bound:.3g})"
        return f"{self.subject}: {self.value:.3g}{interval}{bound}"

    def undecided(self, reason: str, margin: float, images_needed: int | None) -> Verdict:
        """The same number with the outcome undecided, for a reason that the conditions do not show."""
        return replace(
            self,
            outcome=Outcome.UNDECIDED,
            subject=f"{self.subject}{BUT}{reason}",
            bound=math.nan,  # the number is above it, but this does not decide
            detail=f"{reason}; {self.detail}",
            margin=margin,
            images_needed=images_needed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data: numbers to six digits, None for NaN; ``detail`` does not repeat ``line``."""
        numbers = {key: rounded_number(getattr(self, key), 6) for key in ("value", "low", "high", "bound")}
        parts = [
            part for part in self.detail.split("; ") if not self.line or part not in self.subject.split(BUT)
        ]
        return {
            "verdict": str(self.outcome),
            **numbers,
            "margin": rounded_number(self.margin, 3) if math.isfinite(self.margin) else None,
            "images_needed": self.images_needed,
            "subject": self.subject,
            "line": self.line,
            "detail": "; ".join(parts),
            "controls": [contrast.as_dict(self.subject) for contrast in self.controls],
        }


def verdict(conditions: Sequence[Condition], detail: str, controls: tuple[Contrast, ...] = ()) -> Verdict:
    """The verdict on a claim that needs all its conditions.

    It holds if each condition holds by itself; no correction is needed (intersection-union test). It does
    not hold if one condition fails with an interval that is corrected for their number (Bonferroni). The
    verdict's number is the deciding condition's, with its own interval: among the conditions with the worst
    outcome, the one with the smallest z-score.

    Raises:
        InputError: there is no condition.
    """
    if not conditions:
        raise InputError("verdict: a claim needs at least one condition")
    corrected = [replace(c, estimate=c.estimate.corrected(len(conditions))) for c in conditions]
    worst, estimate = min(
        zip(corrected, (c.estimate for c in conditions), strict=True),
        key=lambda pair: (RANKING.index(pair[0].outcome), pair[0].z),
    )
    is_undecided = worst.outcome is Outcome.UNDECIDED
    text = _detail(worst, corrected, detail)
    if is_undecided and estimate.high < worst.bound:
        text = f"below {worst.bound:.3g} by itself, but not as one of {len(corrected)} conditions: {text}"
    images_needed = worst.images_needed(len(corrected)) if is_undecided else None
    return Verdict(
        worst.outcome,
        estimate.value,
        estimate.low,
        estimate.high,
        text,
        controls,
        margin=worst.margin,
        images_needed=images_needed,
        subject=worst.subject,
        bound=worst.bound,
    )


def _detail(worst: Condition, conditions: Sequence[Condition], detail: str) -> str:
    """The worst condition, other conditions that do not hold (each family once), and the finding's detail."""
    failing = (c.family or c.subject for c in conditions if c.outcome is not Outcome.HOLDS)
    names = dict.fromkeys(name for name in failing if name not in (worst.subject, worst.family))
    return "; ".join([worst.subject, *(f"also {name}" for name in names), *([detail] if detail else [])])
