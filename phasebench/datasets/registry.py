"""Named datasets, and how a ``--dataset`` argument becomes one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class DatasetSpec:
    """Images with captions that a model can be measured on.

    Attributes:
        name: how it is called, in ids and as its baselines' folder.
        read: cache folder -> all samples.
        note: one line about it.
    """

    name: str
    read: Callable[[Path], list[Sample]]
    note: str = ""


def bundled_datasets() -> list[DatasetSpec]:
    """The datasets that come with phasebench."""
    return [
        DatasetSpec("scenes", _scenes, "procedural scenes of one to three objects, COCO layout"),
        DatasetSpec("scene-pairs", _scene_pairs, "the same with two objects swapped, Winoground form"),
        DatasetSpec("photos", lambda _: read_folder(ASSETS / "photos"), "24 CC BY photographs from COCO"),
    ]


def _scenes(cache: Path) -> list[Sample]:
    from phasebench.datasets.bundled import scenes_folder

    return read_folder(scenes_folder(cache))


def _scene_pairs(cache: Path) -> list[Sample]:
    from phasebench.datasets.bundled import pairs_folder

    return read_folder(pairs_folder(cache))


def read_folder(folder: Path) -> list[Sample]:
    """The samples of a folder in COCO's or Winoground's layout.

    Raises:
        InputError: it is neither.
    """
    from phasebench.datasets import coco, winoground

    if (folder / winoground.EXAMPLES).is_file():
        return _distinct(folder, winoground.read_winoground(folder))
    if coco.annotation_files(folder):
        return _distinct(folder, coco.read_coco(folder))
    raise InputError(
        f"{folder} has neither {winoground.EXAMPLES} (Winoground's form) "
        "nor annotations/captions_*.json (COCO's layout)"
    )


def _distinct(folder: Path, samples: list[Sample]) -> list[Sample]:
    doubled = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if doubled:
        raise InputError(f"{folder}: several images are called {doubled[0]!r}")
    return samples


def resolve_datasets(arguments: Iterable[str], known: Mapping[str, DatasetSpec]) -> list[DatasetSpec]:
    """The datasets that ``--dataset`` arguments name: a known name or a folder; doubled ones once.

    Raises:
        InputError: an argument is neither; it lists the known names.
    """
    specs = {argument: _resolve(argument, known) for argument in arguments}
    names = [spec.name for spec in specs.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--dataset: two different datasets called {name!r}; rename a folder")
    return list(specs.values())


def _resolve(argument: str, known: Mapping[str, DatasetSpec]) -> DatasetSpec:
    if argument in known:
        return known[argument]
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        what = "no such folder" if "/" in argument else "unknown dataset"
        raise InputError(f"--dataset {argument}: {what}; known: {', '.join(known)}; or give a folder")
    name = folder.resolve().name
    if name in known:
        raise InputError(
            f"--dataset {argument}: {name!r} is a dataset of that name already; rename the folder"
        )
    return DatasetSpec(name, partial(_read_path, folder))


def _read_path(folder: Path, _cache: Path) -> list[Sample]:
    return read_folder(folder)
