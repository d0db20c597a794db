"""``python -m phasebench store``: what the store holds, and how to make room in it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from phasebench.files import store_folder

DAY = 86400.0


@dataclass(frozen=True)
class StoreFolder:
    """The rows that one model left with one set of definitions, precision, device and versions."""

    folder: Path
    about: dict[str, object]
    images: int
    size: int
    age: float
    """Days since a row was last written."""


def store_folders(root: Path) -> Iterator[StoreFolder]:
    """Every folder of the store."""
    from phasebench.measurement.row_store import keys

    for folder, about in keys(root):
        files = list(_files(folder))
        newest = max((stat.st_mtime for _, stat in files), default=time.time())
        images = sum(suffix == ".npz" for suffix, _ in files)
        size = sum(stat.st_size for _, stat in files)
        yield StoreFolder(folder, about, images, size, (time.time() - newest) / DAY)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Endings and sizes; a run that writes takes names away meanwhile."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                yield path.suffix, path.stat()


def _table(found: Sequence[StoreFolder]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("model", "checkpoint", "dtype", "device", "transformers", "rows", "MB", "days", "folder"):
        table.add_column(column, overflow="fold")
    for kept in found:
        told = [
            str(kept.about.get(key, "?"))
            for key in ("model", "checkpoint", "dtype", "device", "transformers")
        ]
        size = [str(kept.images), f"{kept.size / 1e6:.2f}", f"{kept.age:.1f}"]
        table.add_row(*told, *size, kept.folder.name)
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--store", type=Path, metavar="DIR", help="its folder (default: in the cache folder)")
    add("--model", metavar="NAME", help="only what was measured of this model")
    add("--older-than", type=float, metavar="DAYS", help="only what was not added to since")
    add("--clean", action="store_true", help="remove it instead of listing it")


def run(asked: argparse.Namespace) -> int:
    """List or clean; the exit code."""
    root = store_folder(asked.store)
    if asked.store and not root.is_dir():
        sys.stderr.write(f"--store {root}: no such folder\n")
        return 2
    found = [
        kept
        for kept in store_folders(root)
        if asked.model in (None, kept.about.get("model"))
        and (asked.older_than is None or kept.age > asked.older_than)
    ]
    Console(width=None if sys.stdout.isatty() else 140).print(_table(found))
    total = f"{sum(kept.images for kept in found)} rows, {sum(kept.size for kept in found) / 1e6:.2f} MB"
    if asked.clean:
        for kept in found:
            shutil.rmtree(kept.folder)
    sys.stdout.write(f"{total} {'removed from' if asked.clean else 'in'} {root}\n")
    return 0
