"""The store: the rows of measured images on disk, under names that identify everything that decides them.

Each image has one compressed file, which is written under another name and then renamed. So a killed process
leaves a complete file or none, two runs at once need no lock, and a damaged file costs one image. The name of
a file identifies the tensors that enter the model. The name of its folder identifies everything else that
decides the numbers (``row_key``): the model's content, the code, precision, device and versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from phasebench.files import write_whole
from phasebench.measurement.packing import READ_ERRORS, pack, unpack
from phasebench.measurement.passes import Row
from phasebench.measurement.row_key import hashed

ABOUT = "about.json"
"""Name of the file in a folder that describes the conditions of its rows."""
LIMIT = "batch-limit.txt"
"""Name of the file that has the largest number of images per pass for which memory sufficed."""


class Store:
    """Stores rows by name in a folder; without a folder it stores nothing.

    An error of the disk never ends a measurement: it continues without storing rows, and ``trouble`` has the
    reason.

    Attributes:
        about: the conditions that decide these rows; all but the model's name are in the key.
        folder: the folder of the rows, ``<root>/<key>``; None to store nothing.
        trouble: the first reason why a row could not be stored; None if there was none.
        damaged: the number of files that could not be read; their images are measured again.
        carried: with ``carry``, the packed rows that this process measured or read, each with whether this
            process measured it; another process can ``adopt`` them.
    """

    def __init__(
        self,
        root: Path | None,
        about: Mapping[str, Any],
        *,
        fresh: bool = False,
        carry: bool = False,
        run_rows: set[str] | None = None,
    ) -> None:
        """Open the folder for rows measured under the conditions ``about``.

        Args:
            root: the folder of all keys; None to store nothing.
            about: the conditions, plain data.
            fresh: whether to read only rows that this run has measured.
            carry: whether to collect the packed rows for another process.
            run_rows: ``<key>/<name>`` of the rows that this run has measured. The stores of one run share
                this set and add to it, so that a row of this run does not count as an earlier run's.
        """
        decisive = {name: value for name, value in about.items() if name != "model"}
        self._key = hashed(json.dumps(decisive, sort_keys=True).encode())
        self.about = about
        self.folder = None if root is None else root / self._key
        self.trouble: str | None = None
        self.damaged = 0
        self.carried: dict[str, tuple[bytes, bool]] = {}
        self._fresh = fresh
        self._carry = carry
        self._in_memory: dict[str, bytes] = {}
        self._run_rows = set() if run_rows is None else run_rows

    def batch_limit(self) -> int | None:
        """The largest number of images per pass for which memory sufficed in earlier runs; None if in all."""
        if self.folder is None or self._fresh:
            return None
        try:
            return int((self.folder / LIMIT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def note_batch_limit(self, limit: int) -> None:
        """Keep the limit for the next run."""
        if self.folder is not None:
            with suppress(OSError):
                write_whole(self.folder / LIMIT, f"{limit}\n".encode())

    def read_batch(self, names: Sequence[str]) -> list[Row] | None:
        """The rows with these names; None if any of them is missing or damaged."""
        batch = [self.get(name) for name in names]
        rows = [row for row in batch if row is not None]
        return rows if len(rows) == len(batch) else None

    def keep_batch(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Store rows under these names; returns them exactly as ``read_batch`` will."""
        return [self.put(name, row) for name, row in zip(names, rows, strict=True)]

    def get(self, name: str) -> Row | None:
        """The row with this name; None if it is missing or damaged."""
        try:
            data = self._read(name)
            if data is None:
                return None
            row = replace(unpack(data), from_store=not self._is_of_this_run(name))
        except READ_ERRORS:
            self.damaged += 1
            return None
        if self._carry:
            self.carried[name] = data, not row.from_store
        return row

    def put(self, name: str, row: Row) -> Row:
        """Store ``row``; returns it exactly as ``get`` will, so that a resumed run has the same numbers."""
        data = pack(row)
        self._note_measured(name)
        is_written = self._write(name, data)
        if self._carry:
            self.carried[name] = data, True
            if not is_written:  # it is read again once the first process has the rows of all
                self._in_memory[name] = data
        return unpack(data)

    def adopt(self, name: str, data: bytes, *, new: bool) -> None:
        """Store another process's packed row, on disk or in memory; ``new``: this run measured it."""
        if new:
            self._note_measured(name)
        if not self._write(name, data):
            self._in_memory[name] = data

    def _is_of_this_run(self, name: str) -> bool:
        return f"{self._key}/{name}" in self._run_rows

    def _note_measured(self, name: str) -> None:
        self._run_rows.add(f"{self._key}/{name}")

    def _read(self, name: str) -> bytes | None:
        if name in self._in_memory:
            return self._in_memory[name]
        if self.folder is None or (self._fresh and not self._is_of_this_run(name)):
            return None
        path = self.folder / f"{name}.npz"
        return path.read_bytes() if path.is_file() else None

    def _write(self, name: str, data: bytes) -> bool:
        """Write a packed row; returns whether it is on disk."""
        if self.folder is None or self.trouble:
            return False
        about = self.folder / ABOUT
        try:
            if not about.is_file():
                write_whole(about, (json.dumps(dict(self.about), indent=1) + "\n").encode())
            write_whole(self.folder / f"{name}.npz", data)
        except OSError as error:
            self.trouble = f"{error.strerror or error} ({self.folder})"
            return False
        return True


def keys(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of a store, each with the conditions of its rows; empty if they cannot be read."""
    for about in sorted(root.glob(f"*/{ABOUT}")):
        try:
            yield about.parent, dict(json.loads(about.read_text(encoding="utf-8")))
        except (*READ_ERRORS, TypeError):
            yield about.parent, {}
