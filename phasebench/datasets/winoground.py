"""Winoground's form: items of two images and two captions with the same words.

``examples.jsonl`` has one item a line with ``id``, ``image_0``, ``image_1``, ``caption_0``,
``caption_1``; images lie in ``images/``, with or without their ending in the item.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

EXAMPLES = "examples.jsonl"


def read_winoground(folder: Path) -> list[Sample]:
    """Two samples an item; each image has its own caption.

    Raises:
        InputError: a line is not an item; the message names file and line.
    """
    path = folder / EXAMPLES
    samples = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            samples += [_sample(folder, item, side) for side in (0, 1)]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a Winoground item: {error!r}") from error
    if not samples:
        raise InputError(f"no items in {path}")
    return samples


def _sample(folder: Path, item: dict[str, Any], side: int) -> Sample:
    name = str(item[f"image_{side}"])
    path = folder / "images" / name
    if not path.suffix:
        path = next(iter(sorted(path.parent.glob(f"{name}.*"))), path.with_suffix(".png"))
    return Sample(f"{item['id']}_{side}", path, (str(item[f"caption_{side}"]),), str(item["id"]))
