"""COCO captions in the official layout: ``annotations/captions_<split>.json`` beside ``<split>/``.

The images may also lie in ``images/<split>/``, where many copies have them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

VALIDATION = ("val2017", "val2014")
"""Official splits for the dataset ``coco``; the first of these that is present is read."""


def annotation_files(folder: Path) -> list[Path]:
    """The annotation files with captions in a folder in the official layout."""
    return sorted((folder / "annotations").glob("captions_*.json"))


def read_coco(folder: Path, paths: Sequence[Path] | None = None) -> list[Sample]:
    """Every image of the splits whose image folders are present, sorted by file name.

    Args:
        folder: a folder in the official layout.
        paths: the annotation files to read; by default all in the folder.

    Raises:
        InputError: an annotation file does not follow the layout, or there are no images.
    """
    annotations = annotation_files(folder) if paths is None else paths
    present = [path for path in annotations if _image_folder(path).is_dir()]
    if not present:
        expected = ", ".join(str(_image_folder(path)) for path in annotations)
        raise InputError(f"{folder} has captions but no folder of images: {expected}")
    samples = [sample for path in present for sample in _read(path)]
    if not samples:
        raise InputError(f"no captioned images in {folder / 'annotations'}")
    return samples


def official_captions(folder: Path) -> Path | None:
    """The annotation file of a validation split, preferably one whose images are present; None if none."""
    paths = [folder / "annotations" / f"captions_{split}.json" for split in VALIDATION]
    present = [path for path in paths if path.is_file()]
    with_images = [path for path in present if _image_folder(path).is_dir()]
    return next(iter(with_images or present), None)


def _read(path: Path) -> list[Sample]:
    images, data = _image_folder(path), _json(path)
    captions: dict[int, list[str]] = {}
    try:
        names = sorted((image["file_name"], image["id"]) for image in data["images"])
        for annotation in data["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        return [
            Sample(Path(name).stem, images / name, tuple(captions.get(key, ())), Path(name).stem)
            for name, key in names
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not in the COCO captions layout: {error!r}") from error


def _image_folder(path: Path) -> Path:
    """The folder of an annotation file's images."""
    folder, split = path.parent.parent, path.stem.removeprefix("captions_")
    nested = folder / "images" / split
    return nested if nested.is_dir() else folder / split


def _json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    return data


def write_coco(
    folder: Path, split: str, images: list[tuple[str, int, int]], captions: list[list[str]]
) -> None:
    """Write ``annotations/captions_<split>.json`` for (file name, width, height) and their captions."""
    annotations = [
        {"image_id": index, "id": 10 * index + k, "caption": caption}
        for index, texts in enumerate(captions)
        for k, caption in enumerate(texts)
    ]
    files = [
        {"id": index, "file_name": name, "width": width, "height": height}
        for index, (name, width, height) in enumerate(images)
    ]
    path = folder / "annotations" / f"captions_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": files, "annotations": annotations}, indent=1), encoding="utf-8")
