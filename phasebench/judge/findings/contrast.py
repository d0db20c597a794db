"""A finding's number against its controls, where there is nothing to see: does it differ?"""

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
    replicates,
    rounded_number,
    sample_size,
    student_estimate,
    unseen_hits_error,
)


@dataclass(frozen=True)
class Contrast:
    """A finding's number in one control.

    Attributes:
        control: its name: ``blank``, ``projector``, ``text`` or ``other captions``.
        value: the number there.
        difference: measured minus control, with its interval over images.
        note: a remark on the control.
        quantity: the number's name, in words, as in ``Condition.subject``; empty if it is the verdict's.
    """

    control: str
    value: float
    difference: Estimate
    note: str = ""
    quantity: str = ""

    @property
    def differs(self) -> bool | None:
        """Whether the difference's interval excludes 0, by more than rounding; None without an interval."""
        if math.isnan(self.difference.low):
            return None
        return self.difference.low > ROUNDING or self.difference.high < -ROUNDING

    def as_dict(self, subject: str = "") -> dict[str, Any]:
        """Plain data; numbers to six digits, NaN as None; without the quantity if it is ``subject``."""
        ends = {key: rounded_number(getattr(self.difference, key), 6) for key in ("low", "high")}
        return {
            "control": self.control,
            "value": rounded_number(self.value, 6),
            "difference": rounded_number(self.difference.value, 6),
            **ends,
            "differs": self.differs,
            "note": self.note,
            "quantity": "" if self.quantity == subject else self.quantity,
        }


def contrasts(
    measured: Curves,
    controls: Mapping[str, Curves],
    names: tuple[str, ...],
    statistic: Statistic,
    note: Callable[[Curves], str] = lambda _: "",
    quantity: str = "",
) -> tuple[Contrast, ...]:
    """The statistic [] of ``names``' means against every control that has these curves.

    If the control has some of the measured images, each is compared with itself and the rest is left out. A
    control of other images adds its own error; a control of one image has no spread. ``quantity`` names the
    statistic; it is shown where it is not the number of the verdict.
    """
    return tuple(
        replace(_contrast(measured, control, curves, names, statistic, note(curves)), quantity=quantity)
        for control, curves in controls.items()
        if set(names) <= set(curves.names)
    )


def _contrast(
    measured: Curves, name: str, control: Curves, names: tuple[str, ...], statistic: Statistic, note: str
) -> Contrast:
    """The contrast with one control."""
    matched = _matching_images(measured, control)
    value, without_items = replicates(matched, names, statistic)
    control_value, control_without_items = replicates(control, names, statistic)
    difference_error = _difference_error(matched, without_items, control, control_without_items)
    error = math.hypot(difference_error, unseen_hits_error(matched, names))
    items, images = _effective_sample(sample_size(matched, names), sample_size(control, names))
    difference = student_estimate(float(value - control_value), error, items, images)
    return Contrast(name, float(control_value), difference, note)


def _matching_images(measured: Curves, control: Curves) -> Curves:
    """The measured images that the control has; all of them if it has other images or a single one."""
    if len(control.items) > 1 and control.items.items() <= measured.items.items():
        return replace(measured, table=measured.table.loc[list(control.items)], items=control.items)
    return measured


def _difference_error(
    measured: Curves, without_items: Array, control: Curves, control_without_items: Array
) -> float:
    """The standard error of the difference, from the values without each item in turn."""
    if measured.items == control.items:
        return float(jackknife_errors(without_items - control_without_items))
    if len(control.items) == 1:
        return float(jackknife_errors(without_items))
    return float(np.hypot(jackknife_errors(without_items), jackknife_errors(control_without_items)))


def _effective_sample(measured: tuple[int, int], control: tuple[int, int]) -> tuple[int, int]:
    """How many items and images a difference rests on; a control of one image sets no limit."""
    items, images = measured
    return (items if control[0] == 1 else min(items, control[0])), images
