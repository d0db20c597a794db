"""``python -m phasebench store``: list the rows in the store, or remove some."""

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
    """The rows of one model with one set of definitions, precision, device and versions."""

    folder: Path
    about: dict[str, object]
    images: int
    size: int
    age: float
    """Days since a row was last written."""


def store_folders(root: Path) -> Iterator[StoreFolder]:
    """Every folder of the store, in turn."""
    from phasebench.measurement.row_store import keys

    for folder, about in keys(root):
        files = list(_files(folder))
        newest = max((stat.st_mtime for _, stat in files), default=time.time())
        images = sum(suffix == ".npz" for suffix, _ in files)
        size = sum(stat.st_size for _, stat in files)
        yield StoreFolder(folder, about, images, size, (time.time() - newest) / DAY)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Suffixes and sizes of the files; a run that is writing may rename some meanwhile."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                yield path.suffix, path.stat()


def _table(folders: Sequence[StoreFolder]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("model", "checkpoint", "dtype", "device", "transformers", "rows", "MB", "days", "folder"):
        table.add_column(column, overflow="fold")
    for entry in folders:
        names = [
            str(entry.about.get(key, "?"))
            for key in ("model", "checkpoint", "dtype", "device", "transformers")
        ]
        sizes = [str(entry.images), f"{entry.size / 1e6:.2f}", f"{entry.age:.1f}"]
        table.add_row(*names, *sizes, entry.folder.name)
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--store", type=Path, metavar="DIR", help="its folder (default: in the cache folder)")
    add("--model", metavar="NAME", help="only rows of this model")
    add("--older-than", type=float, metavar="DAYS", help="only folders without a new row for so many days")
    add("--clean", action="store_true", help="remove them instead of listing them")


def run(arguments: argparse.Namespace) -> int:
    """List or remove rows and return the exit code."""
    root = store_folder(arguments.store)
    if arguments.store and not root.is_dir():
        sys.stderr.write(f"--store {root}: no such folder\n")
        return 2
    folders = [
        entry
        for entry in store_folders(root)
        if arguments.model in (None, entry.about.get("model"))
        and (arguments.older_than is None or entry.age > arguments.older_than)
    ]
    Console(width=None if sys.stdout.isatty() else 140).print(_table(folders))
    rows, megabytes = sum(entry.images for entry in folders), sum(entry.size for entry in folders) / 1e6
    if arguments.clean:
        try:
            for entry in folders:
                shutil.rmtree(entry.folder)
        except OSError as error:
            sys.stderr.write(f"--store {root}: not all of these could be removed: {error}\n")
            return 2
    preposition = "removed from" if arguments.clean else "in"
    sys.stdout.write(f"{rows} rows, {megabytes:.2f} MB {preposition} {root}\n")
    return 0
