"""A finding beside its controls: does its number differ from what comes out with nothing to see?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.statistics import (
    ROUNDING,
    Estimate,
    Statistic,
    jackknife_errors,
    plain,
    replicates,
    student,
    unseen_hits_error,
    valued,
)


@dataclass(frozen=True)
class Contrast:
    """A finding's number in one control.

    Attributes:
        control: its name: ``blank``, ``projector``, ``text`` or ``other captions``.
        value: the number there.
        difference: measured minus control, with its interval over images.
        note: what else is to be said of the control.
    """

    control: str
    value: float
    difference: Estimate
    note: str = ""

    @property
    def differs(self) -> bool | None:
        """Whether the difference's interval excludes 0, by more than rounding; None without an interval."""
        if math.isnan(self.difference.low):
            return None
        return self.difference.low > ROUNDING or self.difference.high < -ROUNDING

    def as_dict(self) -> dict[str, Any]:
        """Plain data; numbers to six digits, NaN as None."""
        numbers = {key: plain(getattr(self.difference, key), 6) for key in ("low", "high")}
        difference = plain(self.difference.value, 6)
        return {
            "control": self.control,
            "value": plain(self.value, 6),
            "difference": difference,
            **numbers,
            "differs": self.differs,
            "note": self.note,
        }


def contrasts(
    measured: Curves,
    controls: Mapping[str, Curves],
    names: tuple[str, ...],
    statistic: Statistic,
    note: Callable[[Curves], str] = lambda _: "",
) -> tuple[Contrast, ...]:
    """The statistic [] of ``names``' means against every control that has these curves.

    Images that a control has too are compared each with itself, and the others left out; a control of other
    images adds its own error. A control of one image has no spread.
    """
    found = []
    for control, curves in controls.items():
        if set(names) <= set(curves.names):
            here = _matched(measured, curves)
            value, left = replicates(here, names, statistic)
            there, left_there = replicates(curves, names, statistic)
            error = math.hypot(_gap_error(here, left, curves, left_there), unseen_hits_error(here, names))
            items, images = _effective_sample(valued(here, names), valued(curves, names))
            gap = student(float(value - there), error, items, images)
            found.append(Contrast(control, float(there), gap, note(curves)))
    return tuple(found)


def _matched(measured: Curves, control: Curves) -> Curves:
    """The measured images that the control has; all of them where it has others, or one for all."""
    if len(control.items) > 1 and control.items.items() <= measured.items.items():
        return replace(measured, table=measured.table.loc[list(control.items)], items=control.items)
    return measured


def _gap_error(measured: Curves, left: Array, control: Curves, left_there: Array) -> float:
    """The standard error of the difference."""
    if measured.items == control.items:
        return float(jackknife_errors(left - left_there))
    if len(control.items) == 1:
        return float(jackknife_errors(left))
    return float(np.hypot(jackknife_errors(left), jackknife_errors(left_there)))


def _effective_sample(measured: tuple[int, int], control: tuple[int, int]) -> tuple[int, int]:
    """Items and images that a difference rests on; a control of one image limits nothing."""
    items, images = measured
    return (items if control[0] == 1 else min(items, control[0])), images
