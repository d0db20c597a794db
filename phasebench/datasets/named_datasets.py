"""Named datasets, and resolving an argument to a dataset: a known name, a folder, or a list of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError, did_you_mean

ASSETS = Path(__file__).parent / "assets"
ENDINGS = (".jsonl", ".csv")
"""Endings of a file that lists images."""
OFFICIAL = {
    "coco": "COCO captions, the validation images",
    "winoground": "Winoground: pairs of images whose captions have the same words",
}
"""Published datasets that are read from the user's copy or the hub, never bundled."""


@dataclass(frozen=True)
class DatasetSpec:
    """Images with captions that a model can be measured on.

    Attributes:
        name: its name in case ids, and the name of its baselines' folder.
        read: a function from the cache folder to all samples, from which the measured ones are drawn.
        note: one line for lists of datasets.
    """

    name: str
    read: Callable[[Path], list[Sample]]
    note: str = ""


def read(spec: DatasetSpec, cache: Path) -> list[Sample]:
    """The samples of a dataset; a user's function may read it.

    Raises:
        InputError: the dataset cannot be read, or its function does not return samples.
    """
    try:
        samples = list(spec.read(cache))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot be read: {type(error).__name__}: {error}") from error
    for sample in samples:
        if not isinstance(sample, Sample):
            raise InputError(f"its function should return samples, not {type(sample).__name__}")
    return samples


def bundled_datasets() -> list[DatasetSpec]:
    """The datasets that come with phasebench."""
    return [
        DatasetSpec("scenes", _scenes, "procedural scenes of one to three objects, COCO layout"),
        DatasetSpec("scene-pairs", _scene_pairs, "the same with two objects swapped, Winoground form"),
        DatasetSpec("photos", lambda _: read_folder(ASSETS / "photos"), "24 CC BY photographs from COCO"),
    ]


def _scenes(cache: Path) -> list[Sample]:
    from phasebench.datasets.bundled_datasets import scenes_folder

    return read_folder(scenes_folder(cache))


def _scene_pairs(cache: Path) -> list[Sample]:
    from phasebench.datasets.bundled_datasets import pairs_folder

    return read_folder(pairs_folder(cache))


def official_datasets(data_dir: Path | None, images: int, seed: int) -> list[DatasetSpec]:
    """The published datasets: from a copy in ``data_dir``, or without it the drawn images from the hub."""
    readers: dict[str, Callable[[Path], list[Sample]]]
    if data_dir is None:
        readers = {name: partial(_from_hub, name, images, seed) for name in OFFICIAL}
    else:
        readers = {name: partial(_from_copy, name, data_dir) for name in OFFICIAL}
    return [DatasetSpec(name, readers[name], note) for name, note in OFFICIAL.items()]


def _from_hub(name: str, images: int, seed: int, cache: Path) -> list[Sample]:
    from phasebench.datasets import hub_datasets as hub

    make_folder = {"coco": hub.coco_folder, "winoground": hub.winoground_folder}[name]
    return read_folder(make_folder(cache, images, seed))


def _from_copy(name: str, data_dir: Path, _cache: Path) -> list[Sample]:
    """The samples in ``data_dir`` or in its subfolder ``name``.

    Raises:
        InputError: neither has the official files.
    """
    from phasebench.datasets import coco, winoground

    folder = data_dir.expanduser()
    for candidate in (folder / name, folder):
        captions = coco.official_captions(candidate)
        examples = winoground.examples_folder(candidate)
        if name == "coco" and captions is not None:
            return coco.read_coco(candidate, [captions])
        if name == "winoground" and examples is not None:
            return winoground.read_winoground(examples)
    files = {"coco": "annotations/captions_val2017.json (or val2014)", "winoground": winoground.EXAMPLES}
    raise InputError(f"neither {folder / name} nor {folder} has {files[name]}", remedy="data_dir")


def read_folder(folder: str | Path) -> list[Sample]:
    """The samples of a folder in any known layout.

    Layouts are Winoground's, COCO's, a file that lists the images (``captions`` or ``metadata``, ``.jsonl``
    or ``.csv``), and images with a text file each (docs/datasets.md).

    Raises:
        InputError: the folder has none of these layouts, or its files do not follow it.
    """
    from phasebench.datasets import coco, image_list, winoground

    folder = Path(folder)
    examples, captions = winoground.examples_folder(folder), image_list.list_file(folder)
    if examples is not None:
        return winoground.read_winoground(examples)
    if coco.annotation_files(folder):
        return coco.read_coco(folder)
    if captions is not None:
        return image_list.read_list(captions)
    if image_list.image_files(folder):
        return image_list.read_folder_of_images(folder)
    if (folder / "annotations").is_dir():
        raise InputError(f"{folder}: its annotations have no captions_*.json, which COCO's layout requires")
    subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir() and image_list.image_files(path)]
    if subfolders:
        raise InputError(f"{folder}: its images are in subfolders; give one of them ({subfolders[0]})")
    raise InputError(
        f"{folder} has neither {winoground.EXAMPLES} (Winoground's form), "
        "annotations/captions_*.json (COCO's layout), "
        f"{' nor '.join(image_list.LISTS)} (a list), nor images"
    )


def resolve_datasets(arguments: Iterable[str], known: Mapping[str, DatasetSpec]) -> list[DatasetSpec]:
    """The datasets that arguments name: known names, folders or lists; repeated arguments count once.

    Raises:
        InputError: an argument is none of these (the message lists the known names), or two datasets have the
            same name.
    """
    unique = {name if name in known else str(Path(name).resolve()): name for name in arguments}
    specs = {argument: _resolve(argument, known) for argument in unique.values()}
    names = [spec.name for spec in specs.values()]
    for name in names:
        if name != Path(name).name:
            raise InputError(f"{name!r} cannot be the name of a baselines' folder; choose another")
        if names.count(name) > 1:
            raise InputError(f"{name}: two different datasets have this name; rename a folder")
    return list(specs.values())


def _resolve(argument: str, known: Mapping[str, DatasetSpec]) -> DatasetSpec:
    if argument in known:
        return known[argument]
    path = Path(argument).expanduser()
    has_ending = path.suffix in ENDINGS
    if not path.is_dir() and not (has_ending and path.is_file()):
        is_path = "/" in argument or has_ending
        problem = f"no such folder or {' or '.join(ENDINGS)} file" if is_path else "unknown dataset"
        raise InputError(
            f"{argument}: {problem}{did_you_mean(argument, known)}; known: {', '.join(known)}; "
            "or give a folder, FILE.jsonl or FILE.csv"
        )
    name = path.resolve().name if path.is_dir() else path.resolve().stem
    if name in known and name not in OFFICIAL:  # a copy of COCO may lie in a folder called coco
        raise InputError(f"{argument}: there is a dataset called {name!r} already; rename the folder or file")
    return DatasetSpec(name, partial(_read_path, path))


def _read_path(path: Path, _cache: Path) -> list[Sample]:
    from phasebench.datasets.image_list import read_list

    return read_folder(path) if path.is_dir() else read_list(path)
