"""Images with captions in a simple layout: a file that lists them, or a text file beside each image.

A line of the list has ``image`` (a path relative to the list's folder) and ``captions`` (a list) or
``caption``, and may have ``id`` and ``item``. The names of Hugging Face's imagefolder, ``file_name`` and
``text``, are accepted too. A table (CSV) has columns of the same names. An image may have several lines,
each with one caption.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from phasebench.datasets.lines import NAMES, read_lines
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

LISTS = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv")
"""Names of the file that lists a folder's images; the first that is present is read."""
IMAGES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def list_file(folder: Path) -> Path | None:
    """The file that lists a folder's images; None if it has none."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def read_folder_of_images(folder: Path) -> list[Sample]:
    """One sample per image; its captions are the lines of ``NAME.txt`` beside ``NAME.png``.

    Raises:
        InputError: a text file is not UTF-8.
    """
    return [
        Sample(path.name, path, _lines(path.with_suffix(".txt")), path.name) for path in image_files(folder)
    ]


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        return _stripped_captions(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error


def read_list(path: Path) -> list[Sample]:
    """One sample per image; several lines of one image are merged.

    Raises:
        InputError: a line does not list an image with captions, or its item differs from that of an earlier
            line of the same image; the message names the file.
    """
    merged: dict[tuple[str, Path], Sample] = {}
    for sample in read_lines(path, "an image with captions", partial(_sample, path.parent)):
        first = merged.setdefault((sample.id, sample.path), replace(sample, captions=()))
        if first.item != sample.item:
            raise InputError(
                f"{path}: image {sample.id!r} has item {first.item!r} in one line, "
                f"{sample.item!r} in another; give the same item in all of its lines, or in none"
            )
        merged[sample.id, sample.path] = replace(first, captions=first.captions + sample.captions)
    return list(merged.values())


def _sample(folder: Path, line: dict[str, Any]) -> list[Sample]:
    if not isinstance(line, dict):
        raise TypeError("not an object")
    name = _first_value(line, *NAMES)
    if not isinstance(name, str):
        raise ValueError("'image' should be a path")
    key = str(_first_value(line, "id", default=name))
    return [Sample(key, folder / name, _captions(line), str(_first_value(line, "item", default=key)))]


def _first_value(line: dict[str, Any], *names: str, default: Any = None) -> Any:
    """The first value under one of the names that is not null, NaN or empty, as exports write gaps."""
    values = (line.get(name) for name in names)
    return next((value for value in values if value not in (None, "") and value == value), default)  # not NaN


def _captions(line: dict[str, Any]) -> tuple[str, ...]:
    """The captions of a line; empty if it has none."""
    value = _first_value(line, "captions", "caption", "text")
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("'captions' should be a list of texts")
    return _stripped_captions(texts)


def _stripped_captions(texts: list[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())
