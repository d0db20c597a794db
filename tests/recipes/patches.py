"""The patches of an image that show each object."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phasebench.datasets.scenes import SIZE, Scene


def coverage(scene: Scene, grid: int) -> npt.NDArray[np.float64]:
    """Share of each of the ``grid`` x ``grid`` cells that each object's box covers [cells, objects]."""
    cell = SIZE / grid
    starts = np.arange(grid) * cell
    spans = [
        [np.clip(np.minimum(starts + cell, low + thing.side) - np.maximum(starts, low), 0, None)
         for low in (thing.top, thing.left)]
        for thing in scene.things
    ]  # fmt: skip
    shares = [np.outer(rows, columns).ravel() / cell**2 for rows, columns in spans]
    return np.stack(shares, 1) if shares else np.zeros((grid * grid, 0))


def owners(scene: Scene, grid: int, least: float = 0.25) -> npt.NDArray[np.int64]:
    """For each cell the index of the object that covers most of it, or -1 if its share is below ``least``."""
    shares = coverage(scene, grid)
    best: npt.NDArray[np.int64] = shares.argmax(1)
    return np.where(shares.max(1) >= least, best, -1)


def object_cells(scene: Scene, index: int, grid: int, count: int) -> list[int]:
    """The ``count`` cells that the object covers most, in reading order."""
    shares = coverage(scene, grid)[:, index]
    return sorted(int(cell) for cell in np.argsort(-shares, kind="stable")[:count])


def example_cells(scene: Scene, grid: int, each: int, ground: int) -> list[int]:
    """A few cells that show the scene: ``each`` for every object, then background; in reading order."""
    cells = {cell for index in range(len(scene.things)) for cell in object_cells(scene, index, grid, each)}
    for cell in np.argsort(coverage(scene, grid).sum(1), kind="stable"):
        if len(cells) >= each * len(scene.things) + ground:
            break
        cells.add(int(cell))
    return sorted(cells)
