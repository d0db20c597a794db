"""How often verdicts are wrong, and how often the boundaries' intervals contain the true boundaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np

from phasebench.curves import Array, Curves
from phasebench.judge.findings.phase_fit import PhaseFit, boundary_estimates
from phasebench.judge.findings.phase_verdict import four_phases_verdict
from phasebench.judge.findings.phases import FOUR, fit_pattern
from phasebench.judge.findings.verdict import Condition, Outcome, verdict
from phasebench.judge.statistics import estimates, percentile_estimate, resampled_means
from tests.statistics import shapes
from tests.statistics.populations import Population

Shares = dict[Outcome, float]
BOUND_CASES = ("at one layer", "at every layer")
TURNS = (
    ("sharp", 5, 50), ("sharp", 5, 400), ("sharp", 15, 100), ("plateau", 15, 100),
)  # fmt: skip
"""Rows of the boundaries' table: kind of turning point, height in standard errors, images."""


def population(name: str) -> Population:
    """The population with this name in the tables."""
    if name == "independent layers":
        return Population.independent()
    model, _, dataset = name.partition(", ")
    return Population.recorded_images(model, dataset)


def phases_verdict(curves: Curves) -> Outcome:
    """The verdict of ``cases/test_four_phases.py``, without slow steps that do not change it."""
    return four_phases_verdict(PhaseFit(curves)).outcome


def outcomes(sampled_population: Population, images: int, seed: int, samples: int) -> Shares:
    """Share of each outcome of four_phases in samples from a population."""
    rng = np.random.default_rng(seed)
    counts = Counter(phases_verdict(sampled_population.sample(images, rng)) for _ in range(samples))
    return {outcome: counts[outcome] / samples for outcome in Outcome}


def _percentages(shares: Shares) -> str:
    return " / ".join(f"{100 * shares[outcome]:.1f}" for outcome in Outcome)


def other_shape_row(cell: tuple[str, str], samples: int = 150, images: int = 100) -> str:
    """A table's row: a curve without four phases, at two sizes."""
    name, shape = cell
    base, table_cells = population(name), []
    for size in (20, 80):
        truth = shapes.other_shape(shape, base, images, size)
        sample_count = samples * (3 if shape in shapes.MONOTONE else 1)
        table_cells.append(_percentages(outcomes(base.around(inter=truth), images, size, sample_count)))
    return f"| {shape} | {name} | {' | '.join(table_cells)} |"


def flat_row(cell: tuple[str, int], samples: int = 2000) -> str:
    """A table's row: a flat curve at one number of images."""
    name, images = cell
    base = population(name)
    flat = base.around(inter=np.zeros(len(base.truth["inter"])))
    return f"| {name} | {images} | {_percentages(outcomes(flat, images, images, samples))} |"


def power_row(cell: tuple[str, tuple[int, ...], int], samples: int = 500) -> str:
    """A table's row: four real phases, each of so many standard errors."""
    name, boundaries, height = cell
    base, table_cells = population(name), []
    for images in (50, 100, 400):
        sampled_population = base.around(inter=shapes.four(base, boundaries, images, height))
        table_cells.append(_percentages(outcomes(sampled_population, images, 10 * images + height, samples)))
    return f"| {name} | {boundaries} | {height} | {' | '.join(table_cells)} |"


IMAGE_NOISE = 0.02
"""Standard deviation over images, at every layer, of curves whose own wander or zigzag is the same in all."""


def _outcomes_of_own_curves(make: Callable[[np.random.Generator], Array], seed: int, samples: int) -> Shares:
    """Share of each outcome for curves that differ between samples but not between the 50 images of one."""
    rng = np.random.default_rng(seed)
    base = Population.independent(shapes.LAYERS)
    noise = Population({"inter": IMAGE_NOISE * base.deviations["inter"]}, base.truth)
    counts = Counter(phases_verdict(noise.around(inter=make(rng)).sample(50, rng)) for _ in range(samples))
    return {outcome: counts[outcome] / samples for outcome in Outcome}


def wander_row(cell: tuple[str, float], samples: int = 300) -> str:
    """A table's row: a curve that wanders by itself, at three sizes of the wander."""
    shape, coefficient = cell
    curve, table_cells = shapes.straight(shapes.WANDERING[shape]), []
    for size in (0.01, 0.02, 0.05):
        make = partial(_wandering, curve, coefficient, size)
        table_cells.append(_percentages(_outcomes_of_own_curves(make, int(1000 * size), samples)))
    return f"| {shape} | {coefficient} | {' | '.join(table_cells)} |"


def _wandering(curve: Array, coefficient: float, size: float, rng: np.random.Generator) -> Array:
    return curve + shapes.wander(coefficient, size, rng)


def dip_row(share: float, samples: int = 100) -> str:
    """A table's row: the paper's curve with a dip in phase III, at four sizes of its zigzag."""
    table_cells = []
    for zigzag in (0.0, 0.005, 0.01, 0.02):
        make = partial(shapes.with_dip, share, zigzag)
        table_cells.append(_percentages(_outcomes_of_own_curves(make, int(1000 * zigzag), samples)))
    return f"| {100 * share:.0f} % | {' | '.join(table_cells)} |"


def boundaries_row(cell: tuple[str, str, tuple[int, ...], int, int], samples: int = 25) -> str:
    """A table's row: how often the boundaries' intervals contain the truth (any layer of a plateau)."""
    name, turn, boundaries, images, height = cell
    base, rng = population(name), np.random.default_rng(images)
    make = shapes.four if turn == "sharp" else shapes.four_with_plateaus
    sampled_population = base.around(inter=make(base, boundaries, images, height))
    plateau = 0 if turn == "sharp" else shapes.PLATEAU
    inside, widths = [], []
    for _ in range(samples):
        curves = sampled_population.sample(images, rng)
        intervals = boundary_estimates(curves, fit_pattern(curves.mean("inter"), FOUR))
        pairs = zip(intervals, boundaries, strict=True)
        inside.append([b.low <= truth + plateau and b.high >= truth for b, truth in pairs])
        widths.append([b.high - b.low for b in intervals])
    coverage = ", ".join(f"{100 * share:.1f}" for share in np.mean(inside, axis=0))
    width = ", ".join(f"{value:.1f}" for value in np.mean(widths, axis=0))
    return f"| {name} | {turn} | {boundaries} | {height} | {images} | {coverage} | {width} |"


def margins_row(cell: tuple[str, str, int], samples: int = 150) -> str:
    """A table's row for inter at its bound: the verdicts, and the coverage of the smallest margin."""
    name, bound_case, images = cell
    base, rng = population(name), np.random.default_rng(images)
    layers = len(base.truth["inter"])
    at_bound = np.ones(layers) if bound_case == "at every layer" else np.eye(layers)[layers // 2]
    distance = 20 * base.error(np.eye(layers), images).max()
    sampled_population = base.around(inter=distance * (1 - at_bound))
    counts, covered = Counter[Outcome](), 0
    for _ in range(samples):
        curves = sampled_population.sample(images, rng)
        margins = estimates(curves, ("inter",), lambda means: means["inter"])
        counts[verdict([Condition("margin", margin) for margin in margins], "").outcome] += 1
        smallest = resampled_means(curves, "inter").min(axis=1)
        minimum = percentile_estimate(curves.mean("inter").min(), smallest)
        covered += minimum.low <= 0 <= minimum.high
    shares = _percentages({outcome: counts[outcome] / samples for outcome in Outcome})
    return f"| {name} | {bound_case} | {images} | {shares} | {100 * covered / samples:.1f} |"
