"""How often intervals of a mean contain the truth: the judged one beside Student's t and three bootstraps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy.stats import norm, t

from phasebench.catalog import OF_CAPTIONS
from phasebench.curves import Array, Curves
from phasebench.judge.statistics import LEVEL, unseen_hits_error
from tests.statistics.populations import JUDGED, MODELS, recorded

TAIL = (1 - LEVEL) / 2
IMAGES = (24, 50, 100, 400)
RARE = 0.1
"""Share of the items off the commonest value below which a layer's values are called rare events."""
Interval = tuple[Array, Array]
Method = Callable[[Array, Array, np.random.Generator], Interval]


def by_item(model: str, dataset: str, curve: str) -> Array:
    """Recorded values [items, layers] where they differ between items."""
    values = recorded(model, dataset, curve).mean(axis=1)
    return values[:, values.std(axis=0) > 1e-9]


def rare(values: Array) -> np.ndarray:
    """Which layers [layers] have the same value in nearly every item."""
    commonest = np.median(values, axis=0)
    return (np.abs(values - commonest) > 1e-9).mean(axis=0) < RARE


def unseen_error(model: str, dataset: str, curve: str, images: int) -> float:
    """What ``images`` images allow for beyond their scatter: nothing, but of the lens' curves."""
    if curve not in OF_CAPTIONS:
        return 0.0
    values = recorded(model, dataset, "recall")
    rows = values.reshape(-1, values.shape[-1])
    population = Curves.from_arrays({"recall": rows}, {str(k): str(k) for k in range(len(rows))})
    return unseen_hits_error(population, ("recall",)) * len(rows) / images


def moments(counts: Array, values: Array) -> tuple[Array, Array, Array]:
    """Mean, standard error and a sixth of the mean's skewness of the samples [S, layers].

    In a sample item k is drawn counts[:, k] times.
    """
    drawn, centre = counts.sum(axis=1, keepdims=True), values.mean(axis=0)
    first, second, third = (counts @ (values - centre) ** power / drawn for power in (1, 2, 3))
    variance = np.maximum(0, second - first**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = (third - 3 * first * second + 2 * first**3) / variance**1.5 / 6 / np.sqrt(drawn)
    skew = np.where(variance > 1e-18, skew, 0.0)
    return centre + first, np.sqrt(variance / (drawn - 1)), skew


def reaches(error: Array, skew: Array, items: int, beyond: float = 0.0) -> Interval:
    """How far the judged interval's ends lie below and above the mean; see ``Estimate.half_width``.

    ``beyond`` is a standard error that is added to what the sample's scatter makes; with it skewness is none.
    """
    quantile = t.isf(TAIL, items - 1)
    half = quantile * np.hypot(error, beyond)
    further = 0.0 if beyond else (2 * quantile**2 + 1) * skew * error
    return half + np.maximum(0, -further), half + np.maximum(0, further)


def missed(
    values: Array, items: int, rng: np.random.Generator, samples: int, beyond: float = 0.0, skewed: float = 1
) -> Interval:
    """Share of samples [layers] in which the mean of ``values`` lies below the judged interval, and above it.

    Of Student's t where ``skewed`` is 0.
    """
    counts = rng.multinomial(items, np.full(len(values), 1 / len(values)), size=samples).astype(float)
    mean, error, skew = moments(counts, values)
    below, above = reaches(error, skewed * skew, items, beyond)
    away = values.mean(axis=0) - mean
    return (away < -below - 1e-12).mean(axis=0), (away > above + 1e-12).mean(axis=0)


def mean_coverage(
    values: Array, items: int, rng: np.random.Generator, samples: int, beyond: float = 0.0
) -> Array:
    """Share of samples [layers] whose judged interval contains the mean of ``values``."""
    return 1 - np.sum(missed(values, items, rng, samples, beyond), axis=0)


def intervals(
    counts: Array, values: Array, rng: np.random.Generator, resamples: int, beyond: float
) -> dict[str, Interval]:
    """Each method's interval [layers] from one sample, in which item k was drawn counts[k] times."""
    items = int(counts.sum())
    mean, error, skew = (row[0] for row in moments(counts[None], values))
    again = rng.multinomial(items, counts / items, size=resamples).astype(float)
    means, errors, _ = moments(again, values)
    half = t.isf(TAIL, items - 1) * np.hypot(error, beyond)
    below, above = reaches(error, skew, items, beyond)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.nan_to_num((means - mean) / errors, posinf=0, neginf=0)
    low, high = np.quantile(ratios, [TAIL, 1 - TAIL], axis=0)
    return {
        "judged": (mean - below, mean + above),
        "Student's t": (mean - half, mean + half),
        "percentile": tuple(np.quantile(means, [TAIL, 1 - TAIL], axis=0)),
        "BCa": bca(counts, values, means),
        "bootstrap t": (mean - high * error, mean - low * error),
    }


def bca(counts: Array, values: Array, means: Array) -> Interval:
    """Efron's bias-corrected and accelerated interval [layers]; the jackknife of a mean is its skewness."""
    items, size = counts.sum(), len(means)
    mean = counts @ values / items
    away = values - mean
    skewness = (counts @ away**3 / items) / np.maximum(1e-100, counts @ away**2 / items) ** 1.5
    acceleration = skewness / (6 * np.sqrt(items))
    below = ((means < mean).sum(axis=0) + (means == mean).sum(axis=0) / 2) / size
    bias = norm.ppf(np.clip(below, 1 / size, 1 - 1 / size))
    ends = []
    for tail in (TAIL, 1 - TAIL):
        z = bias + norm.ppf(tail)
        share = norm.cdf(bias + z / (1 - acceleration * z))
        ends.append(np.array([np.quantile(means[:, k], share[k]) for k in range(values.shape[1])]))
    return ends[0], ends[1]


def compared(
    values: Array, items: int, seed: int, samples: int, resamples: int, beyond: float
) -> dict[str, Interval]:
    """Method -> (coverage [layers], width to Student's [layers])."""
    rng = np.random.default_rng(seed)
    truth = values.mean(axis=0)
    found: dict[str, list[Interval]] = {}
    for counts in rng.multinomial(items, np.full(len(values), 1 / len(values)), size=samples).astype(float):
        made = intervals(counts, values, rng, resamples, beyond)
        student = np.maximum(1e-12, made["Student's t"][1] - made["Student's t"][0])
        for name, (low, high) in made.items():
            covered = (low - 1e-12 <= truth) & (truth <= high + 1e-12)
            found.setdefault(name, []).append((covered, (high - low) / student))
    return {name: tuple(np.mean(rows, axis=0)) for name, rows in found.items()}


def spread(covered: Array) -> str:
    """Coverages in percent: the lowest, the median, the highest."""
    low, middle, high = 100 * np.quantile(covered, [0, 0.5, 1])
    return f"{low:.1f} - **{middle:.1f}** - {high:.1f}"


def cells() -> list[tuple[str, str, str]]:
    """The curves whose means are tried: both models, single images and pairs."""
    return [(m, d, c) for m in MODELS for d in ("scenes", "scene-pairs") for c in JUDGED]


def common(cell: tuple[str, str, str]) -> Array:
    """Recorded values [items, layers] that are no rare events."""
    values = by_item(*cell)
    return values[:, ~rare(values)]


def means_row(cell: tuple[str, str, str], samples: int = 2000) -> str:
    """A table's row: the lowest, median and highest coverage over layers, at each number of images."""
    model, dataset, curve = cell
    values, each, shown = common(cell), recorded(*cell).shape[1], []
    for images in IMAGES:
        rng = np.random.default_rng(images)
        beyond = unseen_error(*cell, images)
        shown.append(spread(mean_coverage(values, images // each, rng, samples, beyond)))
    return f"| {model}, {dataset} | `{curve}` | {values.shape[1]} | {' | '.join(shown)} |"


def rare_row(curve: str, samples: int = 2000) -> str:
    """The same for all layers whose values are rare events, of both models' scenes and pairs together."""
    found: dict[int, list[float]] = {images: [] for images in IMAGES}
    for model, dataset, name in cells():
        if name == curve:
            values = by_item(model, dataset, curve)
            values, each = values[:, rare(values)], recorded(model, dataset, curve).shape[1]
            for images in IMAGES:
                rng = np.random.default_rng(images)
                beyond = unseen_error(model, dataset, curve, images)
                found[images] += mean_coverage(values, images // each, rng, samples, beyond).tolist()
    shown = [spread(np.array(covered)) for covered in found.values()]
    return f"| all, rare layers | `{curve}` | {len(found[50])} | {' | '.join(shown)} |"


def sides_row(cell: tuple[str, int], samples: int = 4000) -> str:
    """A table's row: how often the truth lies beyond one end, of all layers of all curves but the lens'."""
    dataset, images = cell
    shown = []
    for skewed in (0, 1):
        found: list[float] = []
        for model, curve in product(MODELS, (name for name in JUDGED if name not in OF_CAPTIONS)):
            values, rng = common((model, dataset, curve)), np.random.default_rng(images)
            items = images // recorded(model, dataset, curve).shape[1]
            found.extend(np.ravel(missed(values, items, rng, samples, skewed=skewed)))
        middle, most, highest = 100 * np.quantile(found, [0.5, 0.95, 1])
        shown.append(f"**{middle:.1f}** - {most:.1f} - {highest:.1f}")
    return f"| {dataset} | {images} | {' | '.join(shown)} |"


METHODS = (
    ("smol-llava", "scenes", "inter"),
    ("smol-llava", "scenes", "ratio_first5"),
    ("smol-llava", "scenes", "recall"),
    ("smol-instructblip", "scenes", "total"),
    ("smol-instructblip", "scene-pairs", "total"),
)


def methods_row(cell: tuple[str, str, str, int], samples: int = 500, resamples: int = 999) -> str:
    """A table's row: the lowest, median and highest coverage of each method, and its width in Student's."""
    model, dataset, curve, images = cell
    items = images // recorded(model, dataset, curve).shape[1]
    values, beyond = common((model, dataset, curve)), unseen_error(model, dataset, curve, images)
    found = compared(values, items, images, samples, resamples, beyond)
    shown = [f"{spread(covered)} ({width.mean():.2f})" for covered, width in found.values()]
    return f"| {model}, {dataset} `{curve}` | {images} | {' | '.join(shown)} |"
