"""Synthetic curves with chosen phases, sinks and peaks, and image-to-image noise; and synthetic states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from phasebench.catalog import ATTENTION, CURVES
from phasebench.curves import Array, Curves
from phasebench.files import packaged_folder
from phasebench.judge.drift.record import Record, record
from phasebench.judge.drift.tolerance import FILE, Tolerances
from phasebench.judge.findings.finding import Evidence

LAST = 40
TOLERANCES = Tolerances.read(packaged_folder("baselines") / FILE)
"""The tolerances that come with phasebench."""


def through(points: Mapping[int, float], last: int = LAST) -> Array:
    """A curve of straight lines through (layer, value) points [last + 1]."""
    return np.interp(np.arange(last + 1), list(points), list(points.values()))


FOUR = through({0: 0.0, 3: 0.4, 10: 0.3, 33: 0.7, 40: 0.5})
RISING = through({0: 0.0, 40: 0.7})
RECALL = through({0: 0.0, 10: 0.1, 33: 0.39, 40: 0.2})


def curves(
    means: Mapping[str, Array],
    *,
    images: int = 60,
    noise: float = 0.0,
    seed: int = 0,
    items: Sequence[str] = (),
) -> Curves:
    """Every curve of a measurement: ``means`` plus noise, and flat curves for the rest."""
    last = len(next(iter(means.values()))) - 1
    rng = np.random.default_rng(seed)
    flat = {name: np.full(last + 1, 0.9 if name.startswith("intra") else 0.5) for name in CURVES}
    arrays = {}
    for name, mean in {**flat, **means}.items():
        values = mean + noise * rng.standard_normal((images, last + 1))
        values[:, 0] = np.nan if name in ATTENTION else values[:, 0]
        arrays[name] = values
    item_names = list(items) or [str(i) for i in range(images)]
    return Curves.from_arrays(
        arrays, {str(i): item_names[i] for i in range(images)}, {"data": "d", "dtype": "float32"}
    )


def recalls(values: Array) -> Curves:
    """Curves of recall and of equal lift [images, L + 1]; each image is an item of its own."""
    return Curves.from_arrays(
        {"recall": values, "lift": values}, {str(k): str(k) for k in range(len(values))}
    )


def recorded(name: str = "inter", **options: object) -> Record:
    """The record of a curve with four phases."""
    return record(curves({name: FOUR}, **{"noise": 0.05, **options}), name)  # type: ignore[arg-type]


def evidence(means: Mapping[str, Array], **options: object) -> Evidence:
    return Evidence(curves(means, **options), {})  # type: ignore[arg-type]


def states(count: int, width: int, seed: int = 1) -> Tensor:
    """States of very different sizes, in which one dimension is larger than all others, as in real models."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=draw) * torch.logspace(-3, 3, count)[:, None]
    rows[:, 5] *= 50
    return rows
