"""Winoground's form: items of two images and two captions with the same words.

``examples.jsonl`` has one item a line with ``id``, ``image_0``, ``image_1``, ``caption_0``,
``caption_1``; images lie in ``images/``, with or without their ending in the item.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from phasebench.datasets.lines import read_lines
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

EXAMPLES = "examples.jsonl"


def examples_folder(folder: Path) -> Path | None:
    """Where the examples lie: ``folder`` itself, or ``data/`` in it as in the official repository."""
    return next((place for place in (folder, folder / "data") if (place / EXAMPLES).is_file()), None)


def read_winoground(folder: Path) -> list[Sample]:
    """Two samples an item; each image has its own caption.

    Raises:
        InputError: a line is not an item (the message names file and line), or the images are packed.
    """
    if (folder / "images.zip").is_file() and not (folder / "images").is_dir():
        raise InputError(f"{folder / 'images.zip'} is packed; unpack its images into {folder / 'images'}")
    return read_lines(folder / EXAMPLES, "a Winoground item", partial(_samples, folder))


def _samples(folder: Path, item: dict[str, Any]) -> list[Sample]:
    return [_sample(folder, item, side) for side in (0, 1)]


def _sample(folder: Path, item: dict[str, Any], side: int) -> Sample:
    name = str(item[f"image_{side}"])
    path = folder / "images" / name
    if not path.suffix:
        path = next(iter(sorted(path.parent.glob(f"{name}.*"))), path.with_suffix(".png"))
    said, own = item[f"caption_{side}"], item["id"]
    if own is None or not isinstance(said, str | None):
        raise ValueError("'id' should be a name, a caption a text")
    return Sample(f"{own}_{side}", path, (said,) if said else (), str(own))
