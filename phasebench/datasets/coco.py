"""COCO captions in the official layout: ``annotations/captions_<split>.json`` beside ``<split>/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError


def annotation_files(folder: Path) -> list[Path]:
    """The captions' files of a folder in the official layout."""
    return sorted((folder / "annotations").glob("captions_*.json"))


def read_coco(folder: Path) -> list[Sample]:
    """Every captioned image of the splits whose images are there, by file name.

    Raises:
        InputError: an annotation file is not what the layout says, or there is nothing in it.
    """
    present = [path for path in annotation_files(folder) if _images(path).is_dir()]
    if not present:
        wanted = ", ".join(str(_images(path)) for path in annotation_files(folder))
        raise InputError(f"{folder} has captions but no folder of images: {wanted}")
    samples = [sample for path in present for sample in _read(path)]
    if not samples:
        raise InputError(f"no captioned images in {folder / 'annotations'}")
    return samples


def _read(path: Path) -> list[Sample]:
    images, data = _images(path), _json(path)
    try:
        captions: dict[int, list[str]] = {}
        for annotation in data["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        named = sorted((image["file_name"], image["id"]) for image in data["images"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not in the COCO captions layout: {error!r}") from error
    return [
        Sample(Path(name).stem, images / name, tuple(captions[key]), Path(name).stem)
        for name, key in named
        if key in captions
    ]


def _images(path: Path) -> Path:
    """The folder of the images that an annotation file describes."""
    return path.parent.parent / path.stem.removeprefix("captions_")


def _json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    return data


def write_coco(
    folder: Path, split: str, images: list[tuple[str, int, int]], captions: list[list[str]]
) -> None:
    """Write ``annotations/captions_<split>.json`` for (file name, width, height) and their captions."""
    described = [
        {"image_id": index, "id": 10 * index + k, "caption": caption}
        for index, texts in enumerate(captions)
        for k, caption in enumerate(texts)
    ]
    named = [
        {"id": index, "file_name": name, "width": width, "height": height}
        for index, (name, width, height) in enumerate(images)
    ]
    path = folder / "annotations" / f"captions_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": named, "annotations": described}, indent=1), encoding="utf-8")
