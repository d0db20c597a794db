"""Findings on norm-based attention of the last text token: Fig. 4 of the paper."""

from __future__ import annotations

import numpy as np

from phasebench.curves import Array
from phasebench.judge.finding import Condition, Evidence, Finding, Verdict, verdict
from phasebench.judge.statistics import estimate, resampled_means

MIDDLE = 0.5
"""Depth from which layers count as middle and deep."""
LAST_FEW = 0.925
"""Depth from which layers count as the last few: the last 3 of 40."""


def judge_attention_sinks(evidence: Evidence) -> Verdict:
    """Fig. 4: the first 5 positions get more than the mean of the others, the more so from the middle on.

    The numbers are the smallest ratio over layers 1..L, against 1, and the later half's mean ratio
    minus the earlier's, against 0.
    """
    mean = evidence.curves.mean("ratio_first5")[1:]
    resamples = resampled_means(evidence.curves, "ratio_first5")[:, 1:]
    below = int((mean <= 1).sum())
    conditions = [
        Condition(
            f"smallest ratio at layer {int(mean.argmin()) + 1}",
            estimate(mean.min(), resamples.min(axis=1)),
            1.0,
        ),
        Condition("later half's ratio minus the earlier's", estimate(float(_later(mean)), _later(resamples))),
    ]
    told = f"ratio above 1 at {len(mean) - below} of {len(mean)} layers, {np.mean(mean):.2f} on average"
    control = ", ".join(
        f"{name} {np.mean(curves.mean('ratio_first5')[1:]):.2f} on average"
        for name, curves in evidence.controls.items()
    )
    return verdict(conditions, told, control)


def _later(ratio: Array) -> Array:
    """Mean over the later half of the layers minus mean over the earlier half [...]."""
    half = ratio.shape[-1] // 2
    return np.asarray(ratio[..., half:].mean(axis=-1) - ratio[..., :half].mean(axis=-1), dtype=np.float64)


def judge_attention_rise_and_drop(evidence: Evidence) -> Verdict:
    """Fig. 4: saliency accumulates in middle and deep layers and drops in the last few.

    The numbers are relative to the curve's mean: what middle and deep layers have above the early
    ones, and what the peak among them has above the last layer.
    """
    mean = evidence.curves.mean("total")
    resamples = resampled_means(evidence.curves, "total")
    conditions = [
        Condition("middle and deep above early", estimate(float(_rise(mean)), _rise(resamples))),
        Condition("peak above the last layer", estimate(float(_drop(mean)), _drop(resamples))),
    ]
    peak = int(np.nanargmax(mean))
    told = f"largest at layer {peak} of {len(mean) - 1}"
    control = ", ".join(
        f"{name}: rise {_rise(curves.mean('total')):+.2f}, drop {_drop(curves.mean('total')):+.2f}"
        for name, curves in evidence.controls.items()
    )
    return verdict(conditions, told, control)


def _parts(total: Array) -> tuple[Array, Array]:
    """Early layers, and middle and deep ones without the last few."""
    depth = np.arange(total.shape[-1]) / (total.shape[-1] - 1)
    early = total[..., (depth > 0) & (depth <= MIDDLE)]
    deep = total[..., (depth > MIDDLE) & (depth <= LAST_FEW)]
    return early, deep


def _rise(total: Array) -> Array:
    early, deep = _parts(total)
    return np.asarray((deep.mean(axis=-1) - early.mean(axis=-1)) / np.nanmean(total, axis=-1))


def _drop(total: Array) -> Array:
    _, deep = _parts(total)
    return np.asarray((deep.max(axis=-1) - total[..., -1]) / np.nanmean(total, axis=-1))


ATTENTION_SINKS = Finding(
    "attention_sinks",
    "The first five positions get more than the others' mean at every layer, and more so from the middle on.",
    "Fig. 4, section 3.2",
    judge_attention_sinks,
)
ATTENTION_RISE_AND_DROP = Finding(
    "attention_rise_and_drop",
    "The last text token's saliency accumulates in middle and deep layers and drops in the last few.",
    "Fig. 4, section 3.2",
    judge_attention_rise_and_drop,
)
