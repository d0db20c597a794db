"""Samples of one picture are not independent: those of one file are one, those of equal pixels one item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError


def merge_same_files(source: Path, samples: Iterable[Sample]) -> list[Sample]:
    """One sample per file and item, with the captions of all in order; it has the id of the first.

    Args:
        source: the list, for the message.
        samples: its rows; a sample whose item is its id belongs to no item with others.

    Raises:
        InputError: two rows of a file have the same id and different items.
    """
    folders: dict[Path, Path] = {}
    merged: dict[tuple[Path, str | None], Sample] = {}
    items: dict[tuple[Path, str], str] = {}
    for sample in samples:
        file = _real_path(sample.path, folders)
        item = items.setdefault((file, sample.id), sample.item)
        if item != sample.item:
            raise InputError(
                f"{source}: image {sample.id!r} has item {item!r} in one line, {sample.item!r} in another; "
                "give the same item in all of its lines, or in none"
            )
        key = file, None if sample.item == sample.id else sample.item
        first = merged.get(key)
        merged[key] = replace(first, captions=first.captions + sample.captions) if first else sample
    return list(merged.values())


def _real_path(path: Path, folders: dict[Path, Path]) -> Path:
    """The path without symbolic links; ``folders`` keeps those of folders, because files are many."""
    try:
        if path.is_symlink():
            return path.resolve()
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
    except (OSError, RuntimeError, ValueError):  # a name that no file system has, or links in a circle
        return path
    return folders[path.parent] / path.name


def merge_same_pictures(
    samples: Sequence[Sample], files: Mapping[str, str], pictures: Mapping[str, str]
) -> tuple[list[Sample], dict[str, Sample]]:
    """One sample per file content; samples of the same pixels in other files become one item.

    Copies of a picture are not independent. If a copy belongs to an item of several images, none is dropped,
    and their items become one.

    Args:
        samples: the samples.
        files: id -> what identifies the bytes of its file.
        pictures: id -> what identifies its pixels.

    Returns:
        The remaining samples in order, with the captions of all, and id of a dropped one -> what stays.
    """
    sizes = Counter(sample.item for sample in samples)
    copies = dict[str, Sample]()
    captions: dict[str, tuple[str, ...]] = {}
    for first, *others in _grouped(samples, files):
        if all(sizes[sample.item] == 1 for sample in (first, *others)):
            copies.update((other.id, first) for other in others)
            captions[first.id] = sum((other.captions for other in others), first.captions)
    remaining = [sample for sample in samples if sample.id not in copies]
    shared = [[sample.item for sample in group] for group in _grouped(remaining, pictures)]
    items = _joined(list(sizes), shared)
    return [
        replace(sample, item=items[sample.item], captions=captions.get(sample.id, sample.captions))
        for sample in remaining
    ], copies


def _grouped(samples: Sequence[Sample], keys: Mapping[str, str]) -> Iterable[list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(keys[sample.id], []).append(sample)
    return groups.values()


def _joined(items: Sequence[str], shared: Iterable[Sequence[str]]) -> dict[str, str]:
    """Item -> the first of the items that it is joined with, directly or through others."""
    joined = {item: item for item in items}
    order = {item: number for number, item in enumerate(items)}
    for group in shared:
        members = {joined[item] for item in group}
        first = min(members, key=order.__getitem__)
        joined = {item: first if root in members else root for item, root in joined.items()}
    return joined
