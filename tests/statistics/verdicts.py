"""How often verdicts are wrong, and what the boundaries' intervals contain."""

from __future__ import annotations

from collections import Counter

import numpy as np

from phasebench.curves import Curves
from phasebench.judge.findings.phase_fit import PhaseFit, boundary_estimates
from phasebench.judge.findings.phase_verdict import four_phases_verdict
from phasebench.judge.findings.phases import FOUR, fit_pattern
from phasebench.judge.findings.verdict import Condition, Outcome, verdict
from phasebench.judge.statistics import estimates, percentile_estimate, resampled_means
from tests.statistics import shapes
from tests.statistics.populations import Population

Shares = dict[Outcome, float]
TOUCHES = ("at one layer", "at every layer")
TURNS = (
    ("sharp", 5, 50), ("sharp", 5, 400), ("sharp", 15, 100), ("plateau", 15, 100),
)  # fmt: skip
"""How a curve turns, each interval's height in standard errors, and images: of the boundaries' table."""


def population(name: str) -> Population:
    """By its name in the tables."""
    if name == "independent layers":
        return Population.independent()
    model, _, dataset = name.partition(", ")
    return Population.of(model, dataset)


def phases_verdict(curves: Curves) -> Outcome:
    """As ``cases/test_four_phases.py``, without what takes time and changes no verdict."""
    return four_phases_verdict(PhaseFit(curves)).outcome


def outcomes(drawn: Population, images: int, seed: int, samples: int) -> Shares:
    """Share of each outcome of four_phases in samples from a population."""
    rng = np.random.default_rng(seed)
    counted = Counter(phases_verdict(drawn.sample(images, rng)) for _ in range(samples))
    return {outcome: counted[outcome] / samples for outcome in Outcome}


def _told(found: Shares) -> str:
    return " / ".join(f"{100 * found[outcome]:.1f}" for outcome in Outcome)


def fewer_row(cell: tuple[str, str], samples: int = 150, images: int = 100) -> str:
    """A table's row: a curve without four phases, at two sizes."""
    name, shape = cell
    base, told = population(name), []
    for size in (20, 80):
        truth = shapes.fewer(shape, base, images, size)
        many = samples * (3 if shape in shapes.MONOTONE else 1)
        told.append(_told(outcomes(base.around(inter=truth), images, size, many)))
    return f"| {shape} | {name} | {' | '.join(told)} |"


def flat_row(cell: tuple[str, int], samples: int = 2000) -> str:
    """A table's row: a flat curve at one number of images."""
    name, images = cell
    base = population(name)
    flat = base.around(inter=np.zeros(len(base.truth["inter"])))
    return f"| {name} | {images} | {_told(outcomes(flat, images, images, samples))} |"


def power_row(cell: tuple[str, tuple[int, ...], int], samples: int = 500) -> str:
    """A table's row: four real phases, each of so many standard errors."""
    name, boundaries, height = cell
    base, told = population(name), []
    for images in (50, 100, 400):
        drawn = base.around(inter=shapes.four(base, boundaries, images, height))
        told.append(_told(outcomes(drawn, images, 10 * images + height, samples)))
    return f"| {name} | {boundaries} | {height} | {' | '.join(told)} |"


def boundaries_row(cell: tuple[str, str, tuple[int, ...], int, int], samples: int = 25) -> str:
    """What the boundaries' intervals contain of the truth; of a plateau, any of its layers."""
    name, turn, boundaries, images, height = cell
    base, rng = population(name), np.random.default_rng(images)
    make = shapes.four if turn == "sharp" else shapes.four_with_plateaus
    drawn = base.around(inter=make(base, boundaries, images, height))
    wide = 0 if turn == "sharp" else shapes.PLATEAU
    inside, widths = [], []
    for _ in range(samples):
        curves = drawn.sample(images, rng)
        found = boundary_estimates(curves, fit_pattern(curves.mean("inter"), FOUR))
        inside.append([b.low <= t + wide and b.high >= t for b, t in zip(found, boundaries, strict=True)])
        widths.append([b.high - b.low for b in found])
    covered = ", ".join(f"{100 * share:.1f}" for share in np.mean(inside, axis=0))
    width = ", ".join(f"{value:.1f}" for value in np.mean(widths, axis=0))
    return f"| {name} | {turn} | {boundaries} | {height} | {images} | {covered} | {width} |"


def margins_row(cell: tuple[str, str, int], samples: int = 150) -> str:
    """Inter at its bound: what each layer as a condition says, and what the smallest as one number covers."""
    name, where, images = cell
    base, rng = population(name), np.random.default_rng(images)
    layers = len(base.truth["inter"])
    tied = np.ones(layers) if where == "at every layer" else np.eye(layers)[layers // 2]
    spread = 20 * base.error(np.eye(layers), images).max()
    drawn = base.around(inter=spread * (1 - tied))
    counted, covered = Counter[Outcome](), 0
    for _ in range(samples):
        curves = drawn.sample(images, rng)
        margins = estimates(curves, ("inter",), lambda means: means["inter"])
        counted[verdict([Condition("margin", margin) for margin in margins], "").outcome] += 1
        smallest = resampled_means(curves, "inter").min(axis=1)
        one = percentile_estimate(curves.mean("inter").min(), smallest)
        covered += one.low <= 0 <= one.high
    told = _told({outcome: counted[outcome] / samples for outcome in Outcome})
    return f"| {name} | {where} | {images} | {told} | {100 * covered / samples:.1f} |"
