"""How often intervals of a mean contain the true mean: the judged one, Student's t and three bootstraps."""

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
"""A layer's values are rare events if a smaller share of the items differs from the most common value."""
Interval = tuple[Array, Array]
Method = Callable[[Array, Array, np.random.Generator], Interval]


def by_item(model: str, dataset: str, curve: str) -> Array:
    """Recorded values [items, layers], without layers at which all items are equal."""
    values = recorded(model, dataset, curve).mean(axis=1)
    return values[:, values.std(axis=0) > 1e-9]


def has_rare_events(values: Array) -> np.ndarray:
    """Whether nearly every item has the same value, for each layer [layers]."""
    commonest = np.median(values, axis=0)
    return (np.abs(values - commonest) > 1e-9).mean(axis=0) < RARE


def unseen_error(model: str, dataset: str, curve: str, images: int) -> float:
    """The standard error that ``images`` images add to their scatter; 0 but for the lens' curves."""
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
    totals, centre = counts.sum(axis=1, keepdims=True), values.mean(axis=0)
    first, second, third = (counts @ (values - centre) ** power / totals for power in (1, 2, 3))
    variance = np.maximum(0, second - first**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = (third - 3 * first * second + 2 * first**3) / variance**1.5 / 6 / np.sqrt(totals)
    skew = np.where(variance > 1e-18, skew, 0.0)
    return centre + first, np.sqrt(variance / (totals - 1)), skew


def half_widths(error: Array, skew: Array, items: int, hits_error: float = 0.0) -> Interval:
    """Distances of the judged interval's ends below and above the mean; see ``Estimate.half_width``.

    ``hits_error`` is a standard error that is added to the sample's; with it skewness does not count.
    """
    quantile = t.isf(TAIL, items - 1)
    half = quantile * np.hypot(error, hits_error)
    shift = 0.0 if hits_error else (2 * quantile**2 + 1) * skew * error
    return half + np.maximum(0, -shift), half + np.maximum(0, shift)


def missed_shares(
    values: Array,
    items: int,
    rng: np.random.Generator,
    samples: int,
    hits_error: float = 0.0,
    skew_factor: float = 1,
) -> Interval:
    """Shares of samples [layers] in which the mean of ``values`` lies below and above the judged interval.

    With ``skew_factor`` 0 the interval is Student's t.
    """
    counts = rng.multinomial(items, np.full(len(values), 1 / len(values)), size=samples).astype(float)
    mean, error, skew = moments(counts, values)
    below, above = half_widths(error, skew_factor * skew, items, hits_error)
    error_of_mean = values.mean(axis=0) - mean
    return (error_of_mean < -below - 1e-12).mean(axis=0), (error_of_mean > above + 1e-12).mean(axis=0)


def mean_coverage(
    values: Array, items: int, rng: np.random.Generator, samples: int, hits_error: float = 0.0
) -> Array:
    """Share of samples [layers] whose judged interval contains the mean of ``values``."""
    return 1 - np.sum(missed_shares(values, items, rng, samples, hits_error), axis=0)


def intervals(
    counts: Array, values: Array, rng: np.random.Generator, resamples: int, hits_error: float
) -> dict[str, Interval]:
    """Each method's interval [layers] from one sample, in which item k was drawn counts[k] times."""
    items = int(counts.sum())
    mean, error, skew = (row[0] for row in moments(counts[None], values))
    resample_counts = rng.multinomial(items, counts / items, size=resamples).astype(float)
    means, errors, _ = moments(resample_counts, values)
    half = t.isf(TAIL, items - 1) * np.hypot(error, hits_error)
    below, above = half_widths(error, skew, items, hits_error)
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
    deviations = values - mean
    skewness = (counts @ deviations**3 / items) / np.maximum(1e-100, counts @ deviations**2 / items) ** 1.5
    acceleration = skewness / (6 * np.sqrt(items))
    below = ((means < mean).sum(axis=0) + (means == mean).sum(axis=0) / 2) / size
    bias = norm.ppf(np.clip(below, 1 / size, 1 - 1 / size))
    ends = []
    for tail in (TAIL, 1 - TAIL):
        z = bias + norm.ppf(tail)
        share = norm.cdf(bias + z / (1 - acceleration * z))
        ends.append(np.array([np.quantile(means[:, k], share[k]) for k in range(values.shape[1])]))
    return ends[0], ends[1]


def compare_methods(
    values: Array, items: int, seed: int, samples: int, resamples: int, hits_error: float
) -> dict[str, Interval]:
    """Method -> (coverage [layers], width relative to Student's [layers])."""
    rng = np.random.default_rng(seed)
    truth = values.mean(axis=0)
    rows_by_method: dict[str, list[Interval]] = {}
    for counts in rng.multinomial(items, np.full(len(values), 1 / len(values)), size=samples).astype(float):
        by_method = intervals(counts, values, rng, resamples, hits_error)
        student = np.maximum(1e-12, by_method["Student's t"][1] - by_method["Student's t"][0])
        for name, (low, high) in by_method.items():
            is_covered = (low - 1e-12 <= truth) & (truth <= high + 1e-12)
            rows_by_method.setdefault(name, []).append((is_covered, (high - low) / student))
    return {name: tuple(np.mean(rows, axis=0)) for name, rows in rows_by_method.items()}


def coverage_cell(coverages: Array) -> str:
    """Coverages in percent: the lowest, the median, the highest."""
    low, middle, high = 100 * np.quantile(coverages, [0, 0.5, 1])
    return f"{low:.1f} - **{middle:.1f}** - {high:.1f}"


def cells() -> list[tuple[str, str, str]]:
    """Model, dataset and curve of the simulated means: both models, single images and pairs."""
    return [(m, d, c) for m in MODELS for d in ("scenes", "scene-pairs") for c in JUDGED]


def common_values(cell: tuple[str, str, str]) -> Array:
    """Recorded values [items, layers], without layers of rare events."""
    values = by_item(*cell)
    return values[:, ~has_rare_events(values)]


def means_row(cell: tuple[str, str, str], samples: int = 2000) -> str:
    """A table's row: the lowest, median and highest coverage over layers, at each number of images."""
    model, dataset, curve = cell
    values, images_per_item, table_cells = common_values(cell), recorded(*cell).shape[1], []
    for images in IMAGES:
        rng = np.random.default_rng(images)
        hits_error = unseen_error(*cell, images)
        table_cells.append(
            coverage_cell(mean_coverage(values, images // images_per_item, rng, samples, hits_error))
        )
    return f"| {model}, {dataset} | `{curve}` | {values.shape[1]} | {' | '.join(table_cells)} |"


def rare_row(curve: str, samples: int = 2000) -> str:
    """A table's row for all layers of rare events, both models' scenes and pairs together."""
    coverages: dict[int, list[float]] = {images: [] for images in IMAGES}
    for model, dataset, name in cells():
        if name == curve:
            values = by_item(model, dataset, curve)
            values, images_per_item = (
                values[:, has_rare_events(values)],
                recorded(model, dataset, curve).shape[1],
            )
            for images in IMAGES:
                rng = np.random.default_rng(images)
                hits_error = unseen_error(model, dataset, curve, images)
                coverages[images] += mean_coverage(
                    values, images // images_per_item, rng, samples, hits_error
                ).tolist()
    table_cells = [coverage_cell(np.array(shares)) for shares in coverages.values()]
    return f"| all, rare layers | `{curve}` | {len(coverages[50])} | {' | '.join(table_cells)} |"


def sides_row(cell: tuple[str, int], samples: int = 4000) -> str:
    """A table's row: how often the true mean lies beyond one end, for all curves but the lens'."""
    dataset, images = cell
    table_cells = []
    for skew_factor in (0, 1):
        shares: list[float] = []
        for model, curve in product(MODELS, (name for name in JUDGED if name not in OF_CAPTIONS)):
            values, rng = common_values((model, dataset, curve)), np.random.default_rng(images)
            items = images // recorded(model, dataset, curve).shape[1]
            shares.extend(np.ravel(missed_shares(values, items, rng, samples, skew_factor=skew_factor)))
        middle, high, highest = 100 * np.quantile(shares, [0.5, 0.95, 1])
        table_cells.append(f"**{middle:.1f}** - {high:.1f} - {highest:.1f}")
    return f"| {dataset} | {images} | {' | '.join(table_cells)} |"


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
    values, hits_error = common_values((model, dataset, curve)), unseen_error(model, dataset, curve, images)
    results = compare_methods(values, items, images, samples, resamples, hits_error)
    table_cells = [f"{coverage_cell(shares)} ({width.mean():.2f})" for shares, width in results.values()]
    return f"| {model}, {dataset} `{curve}` | {images} | {' | '.join(table_cells)} |"
