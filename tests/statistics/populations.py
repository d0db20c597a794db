"""Populations with a known mean: samples are drawn from the recorded images.

Items are drawn with replacement and keep all their layers, so that samples have the recorded covariance,
skewness and ties.
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
    record = json.loads((BASELINES / model / dataset / f"{curve}.json").read_text(encoding="utf-8"))
    by_item: dict[str, list[Array]] = {}
    for key, row in record["images"].items():
        by_item.setdefault(item_in_key(key, curve), []).append(as_array(row))
    return np.array(list(by_item.values()))


@dataclass(frozen=True)
class Population:
    """A population of items.

    Attributes:
        deviations: curve -> deviation of every item from the mean [items, images of an item, L + 1].
        truth: curve -> the true mean, which is added to them [L + 1].
    """

    deviations: Mapping[str, Array]
    truth: Mapping[str, Array]

    @classmethod
    def recorded_images(cls, model: str, dataset: str, curves: tuple[str, ...] = ("inter",)) -> Population:
        """The recorded images of a bundled model, whose mean is the true mean."""
        values = {name: recorded(model, dataset, name) for name in curves}
        truth = {name: rows.mean(axis=(0, 1)) for name, rows in values.items()}
        return cls({name: rows - truth[name] for name, rows in values.items()}, truth)

    @classmethod
    def independent(cls, layers: int = 31) -> Population:
        """Normally distributed layers that are independent of each other."""
        noise = np.random.default_rng(0).standard_normal((400, 1, layers))
        noise -= noise.mean(axis=0)
        return cls({"inter": noise}, {"inter": np.zeros(layers)})

    def around(self, **truth: Array) -> Population:
        """A population with the same deviations from another mean."""
        return Population(self.deviations, {**self.truth, **truth})

    def sample(self, images: int, rng: np.random.Generator) -> Curves:
        """Draw so many images, item by item."""
        items, images_per_item = next(iter(self.deviations.values())).shape[:2]
        draws = rng.integers(items, size=images // images_per_item)
        arrays = {
            name: (self.truth[name] + rows[draws]).reshape(-1, rows.shape[-1])
            for name, rows in self.deviations.items()
        }
        return Curves.from_arrays(
            arrays, {str(k): str(k // images_per_item) for k in range(len(draws) * images_per_item)}
        )

    def error(self, steps: Array, images: int) -> Array:
        """Standard errors [K] of weighted sums over layers of inter's mean; ``steps`` is [K, L + 1]."""
        rows = self.deviations["inter"].mean(axis=1)
        return (rows @ steps.T).std(axis=0) / np.sqrt(images / self.deviations["inter"].shape[1])
