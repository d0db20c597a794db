"""Findings on norm-based attention of the last text token: Fig. 4 of the paper."""

from __future__ import annotations

import numpy as np

from phasebench.curves import Array, known_mean
from phasebench.judge.findings.contrast import contrasts
from phasebench.judge.findings.finding import Condition, Evidence, Finding, Verdict, verdict
from phasebench.judge.statistics import Means, estimate, estimates

MIDDLE = 0.5
"""Depth from which layers count as middle and deep."""
LATE = 0.8
"""Depth from which deep layers are compared with the last few."""
LAST_FEW = 0.925
"""Depth from which layers count as the last few: the last 4 of 40."""


def judge_attention_sinks(evidence: Evidence) -> Verdict:
    """Fig. 4: the first 5 positions get more than the mean of the others, the more so from the middle on.

    The numbers are the ratio at each of layers 1..L, against 1, and the later half's mean ratio
    minus the earlier's, against 0.
    """
    mean = evidence.curves.mean("ratio_first5")
    layers = np.flatnonzero(np.isfinite(mean))  # some models attend at some layers only
    found = estimates(evidence.curves, ("ratio_first5",), lambda means: means["ratio_first5"][..., layers])
    growth = estimate(
        evidence.curves, ("ratio_first5",), lambda means: _later(means["ratio_first5"][..., layers])
    )
    conditions = [
        *(
            Condition(f"ratio at layer {layer}", ratio, 1.0, family="ratio")
            for layer, ratio in zip(layers, found, strict=True)
        ),
        Condition("later half's ratio minus the earlier's", growth),
    ]
    above = int((mean[layers] > 1).sum())
    detail = f"ratio above 1 at {above} of {len(layers)} layers, {np.mean(mean[layers]):.2f} on average"
    controls = contrasts(evidence.curves, evidence.controls, ("ratio_first5",), _average_ratio)
    return verdict(conditions, detail, controls)


def _average_ratio(means: Means) -> Array:
    """Mean over layers 1..L [...]: what is compared with the controls."""
    return known_mean(means["ratio_first5"], axis=-1)


def _later(ratio: Array) -> Array:
    """Mean over the later half of the layers minus mean over the earlier half [...]."""
    half = ratio.shape[-1] // 2
    return known_mean(ratio[..., half:], axis=-1) - known_mean(ratio[..., :half], axis=-1)


def judge_attention_rise_and_drop(evidence: Evidence) -> Verdict:
    """Fig. 4: saliency accumulates in middle and deep layers and drops in the last few.

    The numbers are relative to the curve's mean: what middle and deep layers have above the early
    ones, and what the layers before the last few have above these. All are means over layers fixed
    beforehand: a peak chosen on the same images would flatter itself.
    """
    mean = evidence.curves.mean("total")
    rise, drop = (
        estimate(evidence.curves, ("total",), lambda means, of=of: of(means["total"]))  # type: ignore[misc]
        for of in (_rise, _drop)
    )
    conditions = [
        Condition("middle and deep above early", rise),
        Condition("late layers above the last few", drop),
    ]
    peak = int(np.nanargmax(mean))
    detail = f"largest at layer {peak} of {len(mean) - 1}"
    lesser = _rise if rise.value < drop.value else _drop
    controls = contrasts(evidence.curves, evidence.controls, ("total",), lambda means: lesser(means["total"]))
    return verdict(conditions, detail, controls)


def _mean(total: Array, start: float, end: float) -> Array:
    """Mean over the layers from depth ``start`` up to before depth ``end`` [...]; layer 0 has none."""
    depth = np.arange(total.shape[-1]) / (total.shape[-1] - 1)
    chosen = (depth > 0) & (depth >= start) & (depth < end)
    return known_mean(total[..., chosen], axis=-1)


def _rise(total: Array) -> Array:
    gain = _mean(total, MIDDLE, LAST_FEW) - _mean(total, 0, MIDDLE)
    return np.asarray(gain / _mean(total, 0, np.inf))


def _drop(total: Array) -> Array:
    loss = _mean(total, LATE, LAST_FEW) - _mean(total, LAST_FEW, np.inf)
    return np.asarray(loss / _mean(total, 0, np.inf))


ATTENTION_SINKS = Finding(
    "attention_sinks",
    "The first five positions get more than the others' mean at every layer, and more so from the middle on.",
    "Fig. 4, section 3.2",
    judge_attention_sinks,
    ("ratio_first5",),
)
ATTENTION_RISE_AND_DROP = Finding(
    "attention_rise_and_drop",
    "The last text token's saliency accumulates in middle and deep layers and drops in the last few.",
    "Fig. 4, section 3.2",
    judge_attention_rise_and_drop,
    ("total",),
)
