"""``python -m tests.statistics [SECTION ...]`` writes ``docs/statistics.md``, or prints some sections."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.statistics import coverage, shapes, verdicts
from tests.statistics.populations import MODELS
from tests.support.sections import main

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "statistics.md"
TEMPLATE = ROOT / "tests" / "statistics" / "statistics.md"
SCENES = tuple(f"{model}, scenes" for model in MODELS)
ALL = (*SCENES, "independent layers")
IMAGES = (50, 100, 400)


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """A table in Markdown."""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


def section(head: Sequence[str], row: Callable[[Any], str], cells: Sequence[Any]) -> str:
    """A table whose rows are computed in parallel, by one process for each core."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return table(head, pool.map(row, cells))


def means() -> str:
    head = ("images of", "curve", "layers", *(f"{images} images" for images in coverage.IMAGES))
    rows = [coverage.means_row(cell) for cell in coverage.cells() if coverage.common_values(cell).size]
    return table(head, [*rows, *(coverage.rare_row(curve) for curve in ("recall", "lift"))])


def methods() -> str:
    head = ("curve", "images", "judged", "Student's t", "percentile", "BCa", "bootstrap t")
    cells = [(*which, images) for which in coverage.METHODS for images in coverage.IMAGES]
    return section(head, coverage.methods_row, cells)


def sides() -> str:
    head = ("images of", "images", "Student's t", "judged")
    cells = [(dataset, images) for dataset in ("scenes", "scene-pairs") for images in coverage.IMAGES]
    return section(head, coverage.sides_row, cells)


def margins() -> str:
    head = ("noise of", "inter touches its bound", "images", "verdict", "bootstrap of the smallest covers")
    cells = [(name, where, n) for name in ALL for where in verdicts.BOUND_CASES for n in (50, 400)]
    return section(head, verdicts.margins_row, cells)


def flat() -> str:
    return section(
        ("noise of", "images", "flat"), verdicts.flat_row, [(name, n) for name in ALL for n in IMAGES]
    )


def fewer() -> str:
    head = ("truth", "noise of", "20 standard errors high", "80 standard errors high")
    cells = [(name, shape) for shape in shapes.OTHER_SHAPES if shape != "flat" for name in ALL]
    return section(head, verdicts.other_shape_row, cells)


def power() -> str:
    head = ("noise of", "boundaries of 30", "height", *(f"{images} images" for images in IMAGES))
    turns = (shapes.PAPER, shapes.EVEN, shapes.BUNDLED)
    cells = [(name, turn, 5) for name in ALL for turn in turns]
    return section(
        head, verdicts.power_row, [*cells, *((ALL[0], shapes.EVEN, height) for height in (3, 4, 7))]
    )


def wander() -> str:
    head = ("curve", "coefficient", *(f"wander of {size}" for size in (0.01, 0.02, 0.05)))
    return section(head, verdicts.wander_row, [(name, c) for name in shapes.WANDERING for c in (0.7, 0.9)])


def dips() -> str:
    head = ("dip", *(f"zigzag of {size}" for size in (0, 0.005, 0.01, 0.02)))
    return section(head, verdicts.dip_row, (0.0, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3))


def boundaries() -> str:
    head = ("noise of", "turns", "boundaries of 30", "height", "images", "covered", "width")
    cells = [
        (name, turn, shapes.EVEN, images, height)
        for name in SCENES
        for turn, height, images in verdicts.TURNS
    ]
    return section(head, verdicts.boundaries_row, cells)


SECTIONS: dict[str, Callable[[], str]] = {
    "means": means,
    "methods": methods,
    "sides": sides,
    "margins": margins,
    "flat": flat,
    "fewer": fewer,
    "power": power,
    "wander": wander,
    "dips": dips,
    "boundaries": boundaries,
}

if __name__ == "__main__":
    main("tests.statistics", SECTIONS, TEMPLATE, PATH)
