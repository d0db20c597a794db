"""COCO captions in the official layout: ``annotations/captions_<split>.json`` beside ``<split>/``.

The images may also lie in ``images/<split>/``, where many copies have them, or all in ``images/``. A file of
the same form (nocaps, VizWiz) can be read alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from phasebench.datasets import keys
from phasebench.datasets.image_list import ANNOTATIONS
from phasebench.datasets.lines import parse_json, read_text
from phasebench.datasets.merging import merge_same_files
from phasebench.datasets.paths import ImageFinder
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

VALIDATION = ("val2017", "val2014")
"""Official splits for the dataset ``coco``; the first of these that is present is read."""
PREFIX = "captions_"


def annotation_files(folder: Path) -> list[Path]:
    """The annotation files with captions in a folder in the official layout."""
    return sorted((folder / ANNOTATIONS).glob(f"{PREFIX}*.json"))


def read_coco(folder: Path, paths: Sequence[Path] | None = None) -> list[Sample]:
    """Every image of the splits whose image folders are present, sorted by file name.

    Args:
        folder: a folder in the official layout.
        paths: the annotation files to read; by default all in the folder.

    Raises:
        InputError: an annotation file does not follow the layout, or there are no images.
    """
    annotations = annotation_files(folder) if paths is None else paths
    present = [path for path in annotations if _has_split(path)]
    if not present and (folder / "images").is_dir():
        present = list(annotations)
    if not present:
        expected = ", ".join(str(folder / _split(path)) for path in annotations)
        raise InputError(f"{folder} has captions but no folder of images: {expected}")
    samples = [sample for path in present for sample in _read(path, _json(path))]
    if not samples:
        raise InputError(f"no captioned images in {folder / ANNOTATIONS}")
    return _with_unique_ids(folder, samples)


def read_coco_file(path: Path, data: Any) -> list[Sample]:
    """Every image of one file in COCO's form, whose content is ``data``, sorted by file name.

    Raises:
        InputError: it does not follow the layout, or has no captions.
    """
    return _with_unique_ids(_base(path), _read(path, data))


def official_captions(folder: Path) -> Path | None:
    """The annotation file of a validation split, preferably one whose images are present; None if none."""
    paths = [folder / ANNOTATIONS / f"{PREFIX}{split}.json" for split in VALIDATION]
    present = [path for path in paths if path.is_file()]
    with_images = [path for path in present if _has_split(path)]
    return next(iter(with_images or present), None)


def _read(path: Path, data: Any) -> list[Sample]:
    find, split = _finder(path), _split(path)
    captions: dict[str, list[str]] = {}
    found_keys: dict[str, None] = {}
    try:
        images = sorted(
            (keys.image_name(keys.plain_keys(image)), str(image["id"])) for image in data["images"]
        )
        for annotation in data["annotations"]:
            found_keys.update(dict.fromkeys(annotation))
            texts = keys.captions(keys.plain_keys(annotation))
            captions.setdefault(str(annotation["image_id"]), []).extend(texts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not in the COCO captions layout: {error!r}") from error
    if images:
        keys.check_captions(path, found=any(captions.values()), keys=found_keys)
    samples = ((_stem(name), find(name, split), tuple(captions.get(key, ()))) for name, key in images)
    return merge_same_files(path, (Sample(key, file, texts, key) for key, file, texts in samples))


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _with_unique_ids(base: Path, samples: list[Sample]) -> list[Sample]:
    """The samples, with paths below ``base`` as ids if two files have the same name."""
    if len({sample.id for sample in samples}) == len(samples):
        return samples
    names = [
        (s.path.relative_to(base) if s.path.is_relative_to(base) else s.path).as_posix() for s in samples
    ]
    return [replace(sample, id=name, item=name) for sample, name in zip(samples, names, strict=True)]


def _split(path: Path) -> str:
    return path.stem.removeprefix(PREFIX)


def _base(path: Path) -> Path:
    """The folder that an annotation file describes."""
    return path.parent.parent if path.parent.name == ANNOTATIONS else path.parent


def _split_folders(path: Path) -> tuple[Path, Path]:
    """The folders where the images of an annotation file's split may lie."""
    return _base(path) / "images" / _split(path), _base(path) / _split(path)


def _has_split(path: Path) -> bool:
    return any(folder.is_dir() for folder in _split_folders(path))


def _finder(path: Path) -> ImageFinder:
    """A finder of an annotation file's images.

    Splits may have files of the same names. So a file ``captions_<split>.json`` gets no image from the folder
    of another split.
    """
    if _has_split(path):
        return ImageFinder((f for f in _split_folders(path) if f.is_dir()), below=False)
    roots = dict.fromkeys((_base(path) / "images", _base(path), path.parent))
    return ImageFinder(
        (folder for folder in roots if folder.is_dir()), below=not path.name.startswith(PREFIX)
    )


def _json(path: Path) -> Any:
    return parse_json(path, read_text(path))


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
    path = folder / ANNOTATIONS / f"{PREFIX}{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": files, "annotations": annotations}, indent=1), encoding="utf-8")
