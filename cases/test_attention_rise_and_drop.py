"""Fig. 4: the last text token's saliency accumulates in deep layers and drops in the last few."""

from __future__ import annotations

import numpy as np

from phasebench import Condition, Evidence, Verdict, contrasts, estimate, finding, verdict
from phasebench.curves import Array
from phasebench.judge.findings.layers import mean_between
from phasebench.judge.statistics import Means

MIDDLE = 0.5
"""Depth from which layers count as middle and deep."""
LATE = 0.8
"""Depth from which deep layers are compared with the last few."""
LAST_FEW = 0.925
"""Depth from which layers count as the last few: the last 4 of 40."""


@finding(
    claim="The last text token's saliency accumulates in middle and deep layers and drops in the last few.",
    source="Fig. 4, section 3.2",
    needs=("total",),
    order=4,
)
def test_attention_rise_and_drop(evidence: Evidence) -> Verdict:
    """``total`` is larger in middle and deep layers than in early ones, and smaller again in the last few.

    Both numbers are relative to the curve's mean. They are means over layers fixed beforehand: a peak chosen
    on the same images would look higher than it is.
    """
    curves = evidence.curves
    rise, drop = (estimate(curves, ("total",), step) for step in (relative_rise, relative_drop))
    conditions = [
        Condition("middle and deep above early", rise),
        Condition("late layers above the last few", drop),
    ]
    mean = curves.mean("total")
    detail = f"largest at layer {int(np.nanargmax(mean))} of {curves.last}"
    smaller = relative_rise if rise.value < drop.value else relative_drop
    return verdict(conditions, detail, contrasts(curves, evidence.controls, ("total",), smaller))


def relative_rise(means: Means) -> Array:
    """Mean of the middle and deep layers minus that of the early ones, divided by the mean of all [...]."""
    total = means["total"]
    gain = mean_between(total, MIDDLE, LAST_FEW) - mean_between(total, 0, MIDDLE)
    return _relative(gain, total)


def relative_drop(means: Means) -> Array:
    """Mean of the layers before the last few minus that of the last few, divided by the mean of all [...]."""
    total = means["total"]
    loss = mean_between(total, LATE, LAST_FEW) - mean_between(total, LAST_FEW, np.inf)
    return _relative(loss, total)


def _relative(change: Array, total: Array) -> Array:
    """A change divided by the mean of all layers [...]; NaN where there is no attention at all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(change / mean_between(total, 0, np.inf))
