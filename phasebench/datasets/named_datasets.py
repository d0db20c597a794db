"""Named datasets, and resolving an argument to a dataset: a known name, a folder, or a list of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from phasebench.datasets.layouts import ENDINGS, read_file, read_folder
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError, did_you_mean

ASSETS = Path(__file__).parent / "assets"
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


def resolve_datasets(arguments: Iterable[str], known: Mapping[str, DatasetSpec]) -> list[DatasetSpec]:
    """The datasets that arguments name.

    An argument is a known name, a folder, or a file that lists images; any of these may follow NAME=.
    Repeated arguments count once.

    Raises:
        InputError: an argument is none of these (the message lists the known names), or two datasets have the
            same name.
    """
    split = ((argument, *_name_and_place(argument, known)) for argument in arguments)
    unique = {(name, _identity(place, known)): (argument, name, place) for argument, name, place in split}
    specs = [_resolve(*parts, known) for parts in unique.values()]
    names = [spec.name for spec in specs]
    for name in names:
        if name in ("", ".", "..") or name != Path(name).name:
            raise InputError(f"{name!r} cannot be the name of a baselines' folder; give NAME=FOLDER")
        if names.count(name) > 1:
            raise InputError(
                f"{name}: two different datasets have this name; give NAME=FOLDER for one of them"
            )
    return specs


def _name_and_place(argument: str, known: Mapping[str, DatasetSpec]) -> tuple[str, str]:
    """The NAME before the first = (empty if there is none), and what follows it."""
    name, equals, place = argument.partition("=")
    if argument in known or not equals or _path(argument).exists():
        return "", argument
    if not name:
        raise InputError(f"{argument}: there is nothing before =; give NAME=FOLDER, or the folder alone")
    if not place:
        raise InputError(f"{argument}: there is nothing after =; give a name, a folder or a file")
    return name, place


def _path(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:  # ~name of a user who does not exist
        return Path(place)


def _identity(place: str, known: Mapping[str, DatasetSpec]) -> str:
    return place if place in known else str(_path(place).resolve())


def _resolve(argument: str, name: str, place: str, known: Mapping[str, DatasetSpec]) -> DatasetSpec:
    if place in known:
        return replace(known[place], name=name) if name else known[place]
    path = _path(place)
    is_list = path.suffix.lower() in ENDINGS
    if not path.is_dir() and not (is_list and path.is_file()):
        raise InputError(f"{argument}: {_problem(path, place, known)}")
    own = name or (path.resolve().name if path.is_dir() else path.resolve().stem)
    if not name and own in known and own not in OFFICIAL:  # a copy of COCO may lie in a folder called coco
        raise InputError(
            f"{argument}: there is a dataset called {own!r} already; to compare with its baselines give "
            f"{own}={argument}, else NAME={argument} with another name"
        )
    return DatasetSpec(own, partial(_read_path, path))


def _problem(path: Path, place: str, known: Mapping[str, DatasetSpec]) -> str:
    """Why nothing is read at ``place``, and what can be given instead."""
    read = f"a folder, or a file {', '.join(ENDINGS)}"
    if path.is_file():
        return f"files {path.suffix or 'without an ending'} are not read as datasets; give {read}"
    is_path = "/" in place or path.suffix.lower() in ENDINGS
    problem = "no such folder or file" if is_path else "unknown dataset"
    return f"{problem}{did_you_mean(place, known)}; known: {', '.join(known)}; or give {read}"


def _read_path(path: Path, cache: Path) -> list[Sample]:
    return read_folder(path) if path.is_dir() else read_file(path, cache)
