"""Winoground's layout: items of two images and two captions that have the same words.

``examples.jsonl`` has one item per line with ``id``, ``image_0``, ``image_1``, ``caption_0``,
``caption_1``. The images are in ``images/``; the items may leave out the ending of their names.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from phasebench.datasets.lines import read_lines
from phasebench.datasets.paths import ImageFinder
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

EXAMPLES = "examples.jsonl"


def examples_folder(folder: Path) -> Path | None:
    """The folder with the examples: ``folder`` itself, or ``data/`` in it as in the official repository."""
    return next((path for path in (folder, folder / "data") if (path / EXAMPLES).is_file()), None)


def read_winoground(folder: Path) -> list[Sample]:
    """Two samples per item, each an image with its own caption.

    Raises:
        InputError: a line is not an item (the message names file and line), or the images are packed.
    """
    if (folder / "images.zip").is_file() and not (folder / "images").is_dir():
        raise InputError(f"{folder / 'images.zip'} is packed; unpack its images into {folder / 'images'}")
    find = ImageFinder([folder / "images"], below=False)
    return read_lines(folder / EXAMPLES, "a Winoground item", partial(_samples, find))


def _samples(find: ImageFinder, item: dict[str, Any]) -> list[Sample]:
    return [_sample(find, item, side) for side in (0, 1)]


def _sample(find: ImageFinder, item: dict[str, Any], side: int) -> Sample:
    path = find(str(item[f"image_{side}"]))
    if not path.suffix:
        path = path.with_suffix(".png")
    caption, key = item[f"caption_{side}"], item["id"]
    if key is None or not isinstance(caption, str | None):
        raise ValueError("'id' should be a name, and a caption a text")
    return Sample(f"{key}_{side}", path, (caption,) if caption else (), str(key))
