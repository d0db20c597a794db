"""A curve as it is kept: per layer for readers, per image for comparing like with like."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phasebench.catalog import RECALLS
from phasebench.curves import Array, Curves, known_mean
from phasebench.errors import InputError
from phasebench.judge.statistics import plain

DIGITS = 9
"""Significant digits of a mean: what a float32 needs to be read back as it was."""
IMAGE_DIGITS = 6
"""Significant digits of one image's value: a thirtieth of the smallest tolerance."""
OF_OTHERS = ("recall_other", "lift")
"""Curves in which an image's value also depends on which other images were drawn."""

Record = dict[str, Any]
"""What a baseline's file holds. A curve's: ``curve``, ``layers`` (rows of layer, mean, se, n), ``images``
(values [L + 1] by key) and ``provenance``; a verdict's: what ``Verdict.as_dict`` gives, and the same."""


def record(curves: Curves, name: str) -> Record:
    """Mean, standard error and n per layer, every image's values, and the provenance.

    An image goes by its item and the digest of its content, so that it is known again in a run on others;
    where captions count by the digest of those too, and where its value depends on the others, of them all.
    """
    table = curves.summary(name)
    layers = [
        {
            "layer": layer,
            "mean": plain(row["mean"], DIGITS),
            "se": plain(row["se"], DIGITS),
            "n": int(row["n"]),
        }
        for layer, (_, row) in enumerate(table.iterrows())
    ]
    values = {
        key: [plain(value, IMAGE_DIGITS) for value in row]
        for key, row in zip(_keys(curves, name), curves.array(name).tolist(), strict=True)
    }
    return {"curve": name, "layers": layers, "images": values, "provenance": dict(curves.provenance)}


def _keys(curves: Curves, name: str) -> list[str]:
    others = f" {curves.provenance.get('data')}" if name in OF_OTHERS else ""
    contents = {image: curves.contents.get(image, image) for image in curves.items}
    if name not in RECALLS:
        contents = {image: content.partition("-")[0] for image, content in contents.items()}
    return [f"{item} {contents[image]}{others}" for image, item in curves.items.items()]


def item_of(key: str, curve: str) -> str:
    """The item that an image's key in a record of ``curve`` names."""
    return key.rsplit(" ", 2 if curve in OF_OTHERS else 1)[0]


def parse_record(text: str, source: object) -> Record:
    """The record that a baseline's text holds; what is read later is known to be there.

    Raises:
        InputError: it is not JSON, or not a record; the message names ``source``.
    """
    try:
        found: Record = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"baseline {source} is not JSON ({error}); rewrite it with --snapshot-update"
        ) from error
    if not _is_record(found):
        raise InputError(
            f"baseline {source} is not a record of a curve or verdict; rewrite it with --snapshot-update"
        )
    return found


def _is_record(found: Any) -> bool:
    match found:
        case {"verdict": str()}:
            return _is_provenance(found.get("provenance", {}))
        case {"layers": [_, *_] as layers, "images": dict() as images, "provenance": provenance}:
            whole = bool(images) and all(
                isinstance(row, list) and len(row) == len(layers) for row in images.values()
            )
            rows_known = whole and all(_is_number(value) for row in images.values() for value in row)
            return rows_known and all(map(_is_layer, layers)) and _is_provenance(provenance)
    return False


def _is_layer(found: Any) -> bool:
    keys = ("layer", "mean", "se", "n")
    return isinstance(found, dict) and all(key in found and _is_number(found[key]) for key in keys)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_provenance(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("images", 0), int):
        return False
    layouts = found.get("layout", [])  # one that all images have, or a list
    return all(map(_is_layout, layouts if isinstance(layouts, list) else [layouts]))


def _is_layout(found: Any) -> bool:
    match found:
        case {"visual": list() as runs, "length": int()}:
            return all(isinstance(run, list) and [*map(type, run)] == [int, int] for run in runs)
    return False


def dump(data: Mapping[str, Any]) -> str:
    """A record as text with one layer and one image a line, so that a difference reads in a diff."""
    lines = []
    for key, value in data.items():
        if key == "layers":
            text = _lines("[]", [json.dumps(layer) for layer in value])
        elif key == "images":
            text = _lines("{}", [f"{json.dumps(image)}: {json.dumps(row)}" for image, row in value.items()])
        else:
            text = json.dumps(value, indent=1 if isinstance(value, dict) else None).replace("\n", "\n ")
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _lines(brackets: str, rows: Sequence[str]) -> str:
    return f"{brackets[0]}\n" + ",\n".join(f"  {row}" for row in rows) + f"\n {brackets[1]}"


def columns(recorded: Record) -> dict[str, list[float | None]]:
    """A recorded curve by columns: layer, mean, se, n."""
    return {key: [layer[key] for layer in recorded["layers"]] for key in ("layer", "mean", "se", "n")}


def column(recorded: Record, key: str) -> Array:
    """One column of the layers [L + 1]; NaN where nothing is known."""
    return numbers([layer[key] for layer in recorded["layers"]])


def rows(recorded: Record, keys: Sequence[str]) -> Array:
    """The values of these images [images, L + 1]; NaN where nothing is known."""
    return np.stack([numbers(recorded["images"][key]) for key in keys])


def numbers(values: Sequence[float | None]) -> Array:
    """The same with NaN for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def deviation(values: Array) -> Array:
    """Standard deviation over images of what is known [L + 1]; NaN with fewer than two."""
    known = np.isfinite(values)
    squares = np.where(known, (values - known_mean(values)) ** 2, 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(squares / (known.sum(axis=0) - 1)), dtype=np.float64)
