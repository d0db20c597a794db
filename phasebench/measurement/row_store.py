"""The store: the rows of measured images, kept on disk under everything that decides their numbers.

One file per image, compressed, written under another name and then renamed: a process that is killed
leaves a whole file or none, two runs at once need no lock, and a damaged file costs one image. An image's
file is named after the tensors that enter the model, its folder after everything else that decides the
numbers (``row_key``): the model's content, the code, precision, device, versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phasebench.files import write_whole
from phasebench.measurement.packing import READ_ERRORS, pack, unpack
from phasebench.measurement.passes import Row
from phasebench.measurement.row_key import hashed

ABOUT = "about.json"
"""The file in a folder that says what its rows were measured with."""


class Store:
    """Rows by name, in a folder; without a folder nothing is kept.

    Trouble with the disk never ends a measurement: it goes on without keeping rows, and ``trouble`` says why.

    Attributes:
        about: what decides these rows; all of it but the model's name is in the key.
        folder: where the rows lie, ``<root>/<key>``; None keeps nothing.
        trouble: the first reason for which a row was not kept.
        damaged: how many files could not be read back; their images are measured again.
        carried: with ``carry``, the packed rows that this process measured or read, and whether it measured
            them, for another process to ``adopt``.
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
        """Open the folder for rows that ``about`` decides.

        Args:
            root: the folder of all keys.
            about: plain data that decides the rows' numbers.
            fresh: read only rows that this run has measured.
            carry: collect the packed rows for another process.
            run_rows: ``<key>/<name>`` of the rows that this run has measured. Stores of one run share the set
                and add to it: a row that one of them wrote does not count as an earlier run's.
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

    def read_batch(self, names: Sequence[str]) -> list[Row] | None:
        """The rows of these names; None if one of them is missing."""
        batch = [self.get(name) for name in names]
        rows = [row for row in batch if row is not None]
        return rows if len(rows) == len(batch) else None

    def keep_batch(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Keep rows under these names; returns them as ``read_batch`` will."""
        return [self.put(name, row) for name, row in zip(names, rows, strict=True)]

    def get(self, name: str) -> Row | None:
        """The row of this name; None if it is missing or damaged."""
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
        """Keep ``row``; returns it as ``get`` will, so that a resumed run has the same numbers exactly."""
        data = pack(row)
        self._note_measured(name)
        is_written = self._write(name, data)
        if self._carry:
            self.carried[name] = data, True
            if not is_written:  # it is read again when the rows of all processes are together
                self._in_memory[name] = data
        return unpack(data)

    def adopt(self, name: str, data: bytes, *, new: bool) -> None:
        """Keep another process's packed row, if only in memory; ``new`` if this run measured it."""
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
        """Whether the row is on disk now."""
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
    """The folders of a store and what their rows were measured with."""
    for about in sorted(root.glob(f"*/{ABOUT}")):
        try:
            yield about.parent, dict(json.loads(about.read_text(encoding="utf-8")))
        except (*READ_ERRORS, TypeError):
            yield about.parent, {}
