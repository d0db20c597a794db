"""Images with captions in no particular layout: a file that lists them, or text beside each.

A line of the file has ``image`` (a path, from the file's folder) and ``captions`` (a list) or
``caption``, and may have ``id`` and ``item``. The names of Hugging Face's imagefolder,
``file_name`` and ``text``, do as well. A table (CSV) has the same for columns. An image may have
several lines, with a caption each.
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
"""The file that lists a folder's images, the first that is there."""
IMAGES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def list_of(folder: Path) -> Path | None:
    """The file that lists a folder's images, if it has one."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def image_files(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def read_folder_of_images(folder: Path) -> list[Sample]:
    """One sample an image, with the lines of ``NAME.txt`` beside ``NAME.png`` for captions.

    Raises:
        InputError: a text is not UTF-8.
    """
    return [
        Sample(path.name, path, _lines(path.with_suffix(".txt")), path.name) for path in image_files(folder)
    ]


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        return _spoken(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error


def read_list(path: Path) -> list[Sample]:
    """One sample an image; lines of the same image are one.

    Raises:
        InputError: a line does not list an image with captions, or names another item than an earlier one of
            its image; the message names the file.
    """
    found: dict[tuple[str, Path], Sample] = {}
    for sample in read_lines(path, "an image with captions", partial(_sample, path.parent)):
        first = found.setdefault((sample.id, sample.path), replace(sample, captions=()))
        if first.item != sample.item:
            told = f"one line has item {first.item!r}, another {sample.item!r}"
            raise InputError(f"{path}: of image {sample.id!r} {told}; give it in all of them or in none")
        found[sample.id, sample.path] = replace(first, captions=first.captions + sample.captions)
    return list(found.values())


def _sample(folder: Path, line: dict[str, Any]) -> list[Sample]:
    if not isinstance(line, dict):
        raise TypeError("no object")
    name = _given(line, *NAMES)
    if not isinstance(name, str):
        raise ValueError("'image' should be a path")
    own = str(_given(line, "id", default=name))
    return [Sample(own, folder / name, _captions(line), str(_given(line, "item", default=own)))]


def _given(line: dict[str, Any], *names: str, default: Any = None) -> Any:
    """What the first of the names says that says anything; exports write null, NaN or nothing for none."""
    said = (line.get(name) for name in names)
    return next((value for value in said if value not in (None, "") and value == value), default)  # not NaN


def _captions(line: dict[str, Any]) -> tuple[str, ...]:
    """What the first of the known names says; none of them is no caption."""
    said = _given(line, "captions", "caption", "text")
    texts = [said] if isinstance(said, str) else said or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("'captions' should be a list of texts")
    return _spoken(texts)


def _spoken(texts: list[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())
