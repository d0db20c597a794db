"""The record of a curve in a baseline: layer by layer for readers, image by image for comparing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phasebench.catalog import BY_NAME, Captions
from phasebench.curves import Array, Curves, known_mean
from phasebench.errors import InputError
from phasebench.judge.statistics import rounded_number

DIGITS = 9
"""Significant digits of a mean: enough to read a float32 back unchanged."""
IMAGE_DIGITS = 6
"""Significant digits of one image's value: a thirtieth of the smallest tolerance."""

Record = dict[str, Any]
"""The content of a baseline's file. For a curve: ``curve``, ``layers`` (rows of layer, mean, se, n),
``images`` (values [L + 1] by key), ``provenance``. For a verdict: ``Verdict.as_dict``, ``provenance``."""


def record(curves: Curves, name: str) -> Record:
    """The record of a curve: mean, standard error and n per layer, every image's values, the provenance.

    The key of an image is its item and the digest of its content, so that a run on other images recognises
    it. If captions count, the digest includes them; if the value depends on the other images, the key has
    the digest of the whole data too.
    """
    table = curves.summary(name)
    layers = [
        {
            "layer": layer,
            "mean": rounded_number(row["mean"], DIGITS),
            "se": rounded_number(row["se"], DIGITS),
            "n": int(row["n"]),
        }
        for layer, (_, row) in enumerate(table.iterrows())
    ]
    values = {
        key: [rounded_number(value, IMAGE_DIGITS) for value in row]
        for key, row in zip(_keys(curves, name), curves.array(name).tolist(), strict=True)
    }
    return {"curve": name, "layers": layers, "images": values, "provenance": dict(curves.provenance)}


def _keys(curves: Curves, name: str) -> list[str]:
    """The images' keys in the record of a curve, in order."""
    captions = BY_NAME[name].captions
    data_digest = f" {curves.provenance.get('data')}" if captions is Captions.OTHERS else ""
    contents = {image: curves.contents.get(image, image) for image in curves.items}
    if captions is Captions.NONE:
        contents = {image: content.partition("-")[0] for image, content in contents.items()}
    return [f"{item} {contents[image]}{data_digest}" for image, item in curves.items.items()]


def item_in_key(key: str, curve: str) -> str:
    """The item that an image's key in a record of ``curve`` names."""
    return key.rsplit(" ", 2 if BY_NAME[curve].captions is Captions.OTHERS else 1)[0]


def parse_record(text: str, source: object) -> Record:
    """The record in a baseline's text, checked for everything that is read later.

    Raises:
        InputError: the text is not JSON, or not a record; the message names ``source``.
    """
    try:
        parsed: Record = json.loads(text)
    except ValueError as error:
        raise InputError(f"baseline {source} is not JSON ({error})", remedy="update") from error
    if not _is_record(parsed):
        raise InputError(f"baseline {source} is not a record of a curve or verdict", remedy="update")
    return parsed


def _is_record(parsed: Any) -> bool:
    match parsed:
        case {"verdict": str()}:
            return _is_provenance(parsed.get("provenance", {}))
        case {"layers": [_, *_] as layers, "images": dict() as images, "provenance": provenance}:
            has_rows = bool(images) and all(
                isinstance(row, list) and len(row) == len(layers) for row in images.values()
            )
            has_numbers = has_rows and all(_is_number(value) for row in images.values() for value in row)
            return has_numbers and all(map(_is_layer, layers)) and _is_provenance(provenance)
    return False


def _is_layer(parsed: Any) -> bool:
    keys = ("layer", "mean", "se", "n")
    return isinstance(parsed, dict) and all(key in parsed and _is_number(parsed[key]) for key in keys)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_provenance(parsed: Any) -> bool:
    if not isinstance(parsed, dict) or not isinstance(parsed.get("images", 0), int):
        return False
    layouts = parsed.get("layout", [])  # one layout that all images have, or a list of several
    return all(map(_is_layout, layouts if isinstance(layouts, list) else [layouts]))


def _is_layout(parsed: Any) -> bool:
    match parsed:
        case {"visual": list() as runs, "length": int()}:
            return all(isinstance(run, list) and [*map(type, run)] == [int, int] for run in runs)
    return False


def dump(data: Mapping[str, Any]) -> str:
    """A record as JSON text with a line for each layer and each image, so that a diff can be read."""
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
    """One column of the layers [L + 1]; NaN where there is no value."""
    return as_array([layer[key] for layer in recorded["layers"]])


def rows(recorded: Record, keys: Sequence[str]) -> Array:
    """The values of these images [images, L + 1]; NaN where there is no value."""
    return np.stack([as_array(recorded["images"][key]) for key in keys])


def as_array(values: Sequence[float | None]) -> Array:
    """The values as an array, with NaN for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def deviation(values: Array) -> Array:
    """Standard deviation of the finite values over images [L + 1]; NaN with fewer than two."""
    is_finite = np.isfinite(values)
    squares = np.where(is_finite, (values - known_mean(values)) ** 2, 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(squares / (is_finite.sum(axis=0) - 1)), dtype=np.float64)
