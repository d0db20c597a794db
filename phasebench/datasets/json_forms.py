"""The forms of a JSON file that lists images with captions, other than COCO's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phasebench.datasets.keys import names_images
from phasebench.datasets.paths import is_picture
from phasebench.errors import InputError

FORMS = (
    "COCO's (images, annotations), Karpathy's (images with sentences), a list of objects, "
    "and an object of names with captions"
)


def is_coco(data: Any) -> bool:
    """Whether a JSON file has images and annotations apart, as COCO, nocaps and VizWiz have."""
    return isinstance(data, dict) and {"images", "annotations"} <= set(data)


def rows_of_json(path: Path, data: Any) -> list[Any]:
    """The rows of a JSON value: of a list, of the only list of objects in an object, or names with captions.

    Raises:
        InputError: it has another form; the message names its keys.
    """
    if isinstance(data, list):
        return data
    if not isinstance(data, dict):
        raise InputError(f"{path} has neither a list nor an object; read are {FORMS}")
    if data and all(map(is_picture, data)):
        return [{"image": name, "captions": captions} for name, captions in data.items()]
    lists = [value for value in data.values() if _lists_images(value)]
    if len(lists) == 1:
        return list(lists[0])
    if names_images(data):
        return [data]
    raise InputError(
        f"{path} is in none of the forms that are read: {FORMS}; its keys are {', '.join(data) or 'none'}"
    )


def _lists_images(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and names_images(value[0])
