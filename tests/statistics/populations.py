"""Populations whose truth is known: the recorded images, drawn from again and again.

An item drawn with replacement from the recorded ones brings all its layers, so that samples have the recorded
covariance, skewness and ties, and the population's mean is known exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.drift.record import as_array, item_in_key

BASELINES = Path(__file__).parents[2] / "baselines"
MODELS = ("smol-llava", "smol-instructblip")
JUDGED = ("inter", "intra_visual", "intra_text", "ratio_first5", "total", "recall", "lift")


@cache
def recorded(model: str, dataset: str, curve: str) -> Array:
    """The recorded values of a curve [items, images of an item, L + 1]; every item has as many images."""
    found = json.loads((BASELINES / model / dataset / f"{curve}.json").read_text(encoding="utf-8"))
    by_item: dict[str, list[Array]] = {}
    for key, row in found["images"].items():
        by_item.setdefault(item_in_key(key, curve), []).append(as_array(row))
    return np.array(list(by_item.values()))


@dataclass(frozen=True)
class Population:
    """Deviations of every item from the mean, by curve [items, images of an item, L + 1].

    ``truth`` is what is added to them: the known mean [L + 1].
    """

    deviations: Mapping[str, Array]
    truth: Mapping[str, Array]

    @classmethod
    def of(cls, model: str, dataset: str, curves: tuple[str, ...] = ("inter",)) -> Population:
        """The recorded images of a bundled model; their mean is the truth."""
        values = {name: recorded(model, dataset, name) for name in curves}
        truth = {name: rows.mean(axis=(0, 1)) for name, rows in values.items()}
        return cls({name: rows - truth[name] for name, rows in values.items()}, truth)

    @classmethod
    def independent(cls, layers: int = 31) -> Population:
        """Layers that know nothing of each other, normally distributed: the other extreme."""
        noise = np.random.default_rng(0).standard_normal((400, 1, layers))
        noise -= noise.mean(axis=0)
        return cls({"inter": noise}, {"inter": np.zeros(layers)})

    def around(self, **truth: Array) -> Population:
        """The same deviations around another mean."""
        return Population(self.deviations, {**self.truth, **truth})

    def sample(self, images: int, rng: np.random.Generator) -> Curves:
        """So many images, drawn item by item."""
        items, each = next(iter(self.deviations.values())).shape[:2]
        drawn = rng.integers(items, size=images // each)
        arrays = {
            name: (self.truth[name] + rows[drawn]).reshape(-1, rows.shape[-1])
            for name, rows in self.deviations.items()
        }
        return Curves.from_arrays(arrays, {str(k): str(k // each) for k in range(len(drawn) * each)})

    def error(self, steps: Array, images: int) -> Array:
        """Standard errors [K] of weighted sums over layers of inter's mean; ``steps`` is [K, L + 1]."""
        rows = self.deviations["inter"].mean(axis=1)
        return (rows @ steps.T).std(axis=0) / np.sqrt(images / self.deviations["inter"].shape[1])
