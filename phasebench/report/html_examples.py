"""The example images of the HTML report: the picture, and the words and attention of each image token."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from phasebench.datasets.pixels import open_rgb
from phasebench.errors import InputError
from phasebench.judge.statistics import rounded_number
from phasebench.report.entries import MeasurementEntry, Number, Rows

SIDE = 448
"""Length in pixels of the longer side of an example picture in the report."""
DIGITS = 3
"""Significant digits of a share of attention."""


def examples(run_id: str, measured: MeasurementEntry) -> Iterator[dict[str, Any]]:
    """The template's data of each example image that has decoded words or attention.

    ``data`` is for the page's script: ``words`` and ``attention`` of the P image tokens, [L + 1][P] each;
    either is None if it is not measured.
    """
    for image, about in measured.pictures.items():
        words = measured.words.get(image) or None
        attention = attention_shares(measured, image)
        picture = _picture(Path(about["path"])) if words or attention else None
        if words or attention:
            yield {
                "key": f"{run_id}/{image}",
                "id": image,
                "captions": about["captions"],
                "picture": picture,
                "grid": measured.patches if picture else None,
                "data": {
                    "words": words,
                    "attention": attention,
                    "references": about["references"],
                    "grid": measured.patches,
                },
            }


def attention_shares(measured: MeasurementEntry, image: str) -> list[list[Number] | None] | None:
    """The share of the last text token's attention on each image token, by layer 0..L [L + 1][P].

    The shares are of the norms of all positions (section 3.2). Layer 0 has no attention and is None.
    None if attention is not measured, or if the images have different layouts.
    """
    rows: Rows = measured.heatmaps.get(image, [])
    if isinstance(measured.layout, list) or not any(value for row in rows for value in row):
        return None
    positions = [k for start, end in measured.layout["visual"] for k in range(start, end)]
    return [None, *(_shares(row, positions) for row in rows)]


def _shares(row: list[Number], positions: list[int]) -> list[Number] | None:
    total = sum(value or 0.0 for value in row)
    return [rounded_number((row[k] or 0.0) / total, DIGITS) for k in positions] if total else None


def _picture(path: Path) -> str | None:
    """A small copy as a data URL; None if the file cannot be read on this machine."""
    try:
        image = open_rgb(path)
    except (InputError, OSError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
