"""Reading a folder or a file in any known layout, and messages about those in none."""

from __future__ import annotations

from pathlib import Path

from phasebench.datasets import coco, image_list, packed, winoground
from phasebench.datasets.json_forms import is_coco
from phasebench.datasets.keys import IMAGE_KEYS
from phasebench.datasets.lines import is_json, parse_json, read_text
from phasebench.datasets.paths import PICTURES, folders_of_images, visible_files
from phasebench.datasets.sample import Sample
from phasebench.datasets.tables import lists_images
from phasebench.errors import InputError

TABLES = (".csv", ".tsv", ".txt", ".token")
ENDINGS = (".jsonl", ".json", *TABLES, *packed.ENDINGS)
"""Endings of files that list images, or contain them."""
BEGINNING = 65536
"""Characters of a file that are enough to tell whether it may list images."""


def read_file(path: Path, cache: Path) -> list[Sample]:
    """The samples of a file with one of ``ENDINGS``.

    Args:
        path: the file.
        cache: the folder for images that the file contains.

    Raises:
        InputError: the file cannot be read, or has none of the known forms.
    """
    ending = path.suffix.lower()
    if ending in packed.ENDINGS:
        return image_list.read_list(packed.unpack(path, cache))
    if (
        ending == ".json"
        and is_json(path, text := read_text(path))
        and is_coco(data := parse_json(path, text))
    ):
        return coco.read_coco_file(path, data)
    return image_list.read_list(path)


def read_folder(folder: str | Path) -> list[Sample]:
    """The samples of a folder in any known layout.

    Layouts are Winoground's, COCO's, a file that lists the images (``captions`` or ``metadata``, ``.jsonl``
    or ``.csv``), and images with a text file each (docs/datasets.md).

    Raises:
        InputError: the folder has none of these layouts, or its files do not follow it.
    """
    folder = Path(folder)
    examples, captions = winoground.examples_folder(folder), image_list.list_file(folder)
    if examples is not None:
        return winoground.read_winoground(examples)
    if coco.annotation_files(folder):
        return coco.read_coco(folder)
    if captions is not None:
        return image_list.read_list(captions)
    samples = image_list.read_folder_of_images(folder)
    if any(sample.captions for sample in samples):
        return samples
    above = folder.parent if folder.name else folder.resolve().parent
    if lists := [*_other_lists(folder), *(_other_lists(above) if samples else ())]:
        where = " or ".join(str(path) for path in lists[:3])
        raise InputError(f"{folder} has no captions; they may be in {where}: give that file")
    if not samples:
        raise InputError(_in_no_layout(folder))
    return samples


def _in_no_layout(folder: Path) -> str:
    """The message for a folder without images, and without a file that may list them."""
    annotations = folder / image_list.ANNOTATIONS
    if annotations.is_dir():
        others = _other_lists(annotations)
        way_out = f"; if {others[0]} has them, give that file" if others else ""
        return f"{folder}: its annotations have no captions_*.json, which COCO's layout requires{way_out}"
    if subfolders := folders_of_images(folder):
        return f"{folder}: its images are in subfolders; give one of them ({subfolders[0]})"
    return (
        f"{folder} has neither {winoground.EXAMPLES} (Winoground's form), annotations/captions_*.json "
        f"(COCO's layout), {' nor '.join(image_list.LISTS)} (a list), nor images"
    )


def _other_lists(folder: Path) -> list[Path]:
    """The files directly in a folder that may list images, or contain them."""
    try:
        return [path for path in visible_files(folder) if _may_list_images(path)]
    except OSError:
        return []


def _may_list_images(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending not in ENDINGS or ending in packed.ENDINGS:
        return ending in packed.ENDINGS
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            beginning = file.read(BEGINNING)
    except OSError:
        return False
    if ending in TABLES:
        return lists_images(beginning.partition("\n")[0])
    signs = (*(f'"{key}"' for key in IMAGE_KEYS), *(f'{ending}"' for ending in PICTURES))
    return any(sign in beginning.lower() for sign in signs)
