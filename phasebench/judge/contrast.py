"""A finding beside its controls: does its number differ from what comes out with nothing to see?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.statistics import ROUNDING, Estimate, estimate, plain, resampled_means, weights

Means = Mapping[str, Array]
"""Curve name -> its mean [L + 1], or bootstrap replicates of it [R, L + 1]."""
Statistic = Callable[[Means], Array]
"""One number [] of a set of means, or one for each replicate [R]."""


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
    """The statistic of ``names``' means against every control that has these curves.

    Both sides are resampled, each over its own images; a control of one image has no spread.
    """
    value, resampled = _both(measured, names, statistic)
    found = []
    for control, curves in controls.items():
        if set(names) <= set(curves.names):
            there, spread = _both(curves, names, statistic)
            if len(curves.items) == 1:
                spread = np.full_like(resampled, there)
            gap = estimate(value - there, resampled - spread)
            found.append(Contrast(control, there, gap, note(curves)))
    return tuple(found)


def _both(curves: Curves, names: tuple[str, ...], statistic: Statistic) -> tuple[float, Array]:
    value = float(statistic({name: curves.mean(name) for name in names}))
    drawn = weights(list(curves.items.values()))
    return value, statistic({name: resampled_means(curves, name, drawn) for name in names})
