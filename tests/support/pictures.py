"""Small data sets on disk."""

from __future__ import annotations

from itertools import islice
from pathlib import Path


def write_pictures(folder: Path, count: int, split: str = "val", seed: int = 5) -> Path:
    """A data set of ``count`` scenes in COCO's layout."""
    from phasebench.datasets.coco import write_coco
    from phasebench.datasets.scenes import SIZE, captions, render, scenes

    (folder / split).mkdir(parents=True)
    drawn = list(islice(scenes("held_out", seed), count))
    names = [f"{index}.png" for index in range(count)]
    for name, scene in zip(names, drawn, strict=True):
        render(scene).save(folder / split / name)
    write_coco(folder, split, [(name, SIZE, SIZE) for name in names], [captions(scene) for scene in drawn])
    return folder
