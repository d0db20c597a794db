"""The store: what one instrumented pass saw in an image, kept on disk under what determined it.

One file an image, compressed, written beside its place and then renamed: a killed process leaves a
whole file or none, two runs at once need no lock, and what is damaged costs one image. An image's
file is named after the tensors that entered the model; the folder it lies in after everything else
that determines the numbers: the model's content, the definitions, precision, device, versions.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import phasebench
from phasebench.curves import Array
from phasebench.files import write_whole
from phasebench.measurement.passes import Row

ABOUT = "about.json"
DAMAGED = (OSError, ValueError, KeyError, zipfile.BadZipFile)
"""What reading a spoilt file, or one of another version, can raise."""
SHARED = ("transformers.masking_utils", "transformers.integrations.sdpa_attention")
"""Modules that every model's pass goes through, besides those that define it."""
RECIPES = "recipes"
"""The folder of code that trained the bundled models: no pass goes through it."""
CHECKSUM = 16
"""Bytes of it; they are the archive's comment, its very end."""


class Store:
    """Rows by name, in a folder; without one nothing is kept.

    Trouble with the disk never ends a measurement: it goes on without keeping, and ``trouble`` says why.
    ``own`` is shared by the stores of a run: what one of them kept is no earlier run's to the others.

    Attributes:
        about: what determines these rows; but for the model's name, all of it is in the key.
        folder: where they lie, ``<store>/<key>``; None keeps nothing.
        trouble: the first reason for which a row was not kept.
        damaged: files that could not be read back; their images are measured again.
        carried: with ``carry``, the packed rows that this process measured or found, and which of the two,
            for another process to ``adopt``.
    """

    def __init__(
        self,
        root: Path | None,
        about: Mapping[str, Any],
        *,
        fresh: bool = False,
        carry: bool = False,
        own: set[str] | None = None,
    ) -> None:
        determined = {name: value for name, value in about.items() if name != "model"}
        self._key = hashed(json.dumps(determined, sort_keys=True).encode())
        self.about = about
        self.folder = None if root is None else root / self._key
        self.trouble: str | None = None
        self.damaged = 0
        self._fresh = fresh
        self._carry = carry
        self._in_memory: dict[str, bytes] = {}
        self._own_rows = set() if own is None else own
        self.carried: dict[str, tuple[bytes, bool]] = {}

    def known(self, called: Sequence[str]) -> list[Row] | None:
        """The kept rows of a batch, by their names; None if one is lacking."""
        found = [self.get(name) for name in called]
        rows = [row for row in found if row is not None]
        return rows if len(rows) == len(found) else None

    def keep(self, called: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Keep a batch's rows under their names; gives them as ``known`` will."""
        return [self.put(name, row) for name, row in zip(called, rows, strict=True)]

    def get(self, name: str) -> Row | None:
        """The row of this name, if it is here and whole."""
        try:
            data = self._read(name)
            if data is None:
                return None
            row = replace(unpack(data), stored=not self._own(name))
        except DAMAGED:
            self.damaged += 1
            return None
        if self._carry:
            self.carried[name] = data, not row.stored
        return row

    def _read(self, name: str) -> bytes | None:
        if name in self._in_memory:
            return self._in_memory[name]
        if self.folder is None or (self._fresh and not self._own(name)):
            return None
        path = self.folder / f"{name}.npz"
        return path.read_bytes() if path.is_file() else None

    def put(self, name: str, row: Row) -> Row:
        """Keep ``row``; gives it as ``get`` will, so that a resumed run sees the same to the last bit."""
        data = pack(row)
        self._note_own(name)
        kept = self._write(name, data)
        if self._carry:
            self.carried[name] = data, True
            if not kept:  # it is asked for once more, when all processes' rows are together
                self._in_memory[name] = data
        return unpack(data)

    def adopt(self, name: str, data: bytes, *, new: bool) -> None:
        """Keep a packed row of another process, if only in memory; ``new`` if this run measured it."""
        if new:
            self._note_own(name)
        if not self._write(name, data):
            self._in_memory[name] = data

    def _own(self, name: str) -> bool:
        """Whether this run measured the row."""
        return f"{self._key}/{name}" in self._own_rows

    def _note_own(self, name: str) -> None:
        self._own_rows.add(f"{self._key}/{name}")

    def _write(self, name: str, data: bytes) -> bool:
        if self.folder is None or self.trouble:
            return False
        about = self.folder / ABOUT  # for whoever looks into the folder: what its rows were measured with
        try:
            if not about.is_file():
                write_whole(about, (json.dumps(dict(self.about), indent=1) + "\n").encode())
            write_whole(self.folder / f"{name}.npz", data)
        except OSError as error:
            self.trouble = f"{error.strerror or error} ({self.folder})"
            return False
        return True


def hashed(*parts: bytes) -> str:
    """Hex digest of ``parts``, 24 characters."""
    state = blake2b(digest_size=12)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def names_of(kind: str, inputs: Mapping[str, Tensor]) -> list[str]:
    """A name for each image of a batch, from everything that enters the model with it.

    In a batch of several, the others shift an image's numbers in their last bits: they count too.
    """
    parts = [kind.encode()]
    for key in sorted(inputs):
        tensor = inputs[key]
        parts += [f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), _bytes(tensor)]
    digest = hashed(*parts)
    return [f"{digest}-{index}" for index in range(len(inputs["input_ids"]))]


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy())


@lru_cache(maxsize=1)
def definitions() -> str:
    """Digest of the code that turns inputs into rows: another definition makes other numbers."""
    return _digest_of(Path(phasebench.__file__).parent)


def _digest_of(package: Path) -> str:
    parts = [path for part in ("measure", "models") for path in sorted((package / part).rglob("*.py"))]
    used = [path for path in parts if RECIPES not in path.relative_to(package).parts]
    sources = (path.read_bytes() for path in (package / "names.py", *used))
    return hashed(phasebench.__version__.encode(), *sources)


def code_of(model: nn.Module) -> str:
    """Digest of the files that define the model's modules, and of what they share in transformers: under one
    version's number they may be another's, edited or a checkpoint's own."""
    names = {type(module).__module__ for module in model.modules()}
    own = {name for name in names if name.partition(".")[0] != "torch"}  # its version is known
    found = [getattr(sys.modules.get(name), "__file__", None) for name in (*own, *SHARED)]
    paths = {Path(file) for file in found if file is not None and Path(file).is_file()}
    return hashed(*sorted(path.name.encode() + path.read_bytes() for path in paths))


def pack(row: Row) -> bytes:
    """A row as a compressed NumPy archive: curves in full, norms to three digits of their layer's largest."""
    largest = np.nan_to_num(row.norms).max(axis=1, initial=0.0, keepdims=True)
    scaled = np.divide(row.norms, largest, out=np.where(np.isnan(row.norms), np.nan, 0.0), where=largest > 0)
    about = {"curves": list(row.curves), "layout": row.layout, "seconds": row.seconds, "plain": row.plain}
    archive = io.BytesIO()
    np.savez_compressed(
        archive,
        about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        curves=_least(np.stack(list(row.curves.values()))),
        tokens=row.tokens.astype(np.min_scalar_type(row.tokens.max(initial=0))),
        norms=scaled.astype(np.float16),
        largest=largest,
    )
    with zipfile.ZipFile(archive, "a") as appended:
        appended.comment = bytes(CHECKSUM)
    data = archive.getvalue()[:-CHECKSUM]
    return data + _checksum(data)


def _least(curves: Array) -> npt.NDArray[Any]:
    """In single precision where nothing is lost: most were computed in it."""
    single = curves.astype(np.float32)
    return single if np.array_equal(single, curves, equal_nan=True) else curves


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECKSUM).digest()


def unpack(data: bytes) -> Row:
    """The row again.

    Raises:
        One of ``DAMAGED``: it is not what was packed.
    """
    if data[-CHECKSUM:] != _checksum(data[:-CHECKSUM]):
        raise ValueError("checksum")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        about = json.loads(bytes(arrays["about"]))
        curves = dict(zip(about["curves"], arrays["curves"].astype(np.float64), strict=True))
        norms = arrays["norms"].astype(np.float64) * arrays["largest"]
        tokens = arrays["tokens"].astype(np.int32)
        return Row(curves, tokens, norms, about["layout"], about["seconds"], about["plain"])


def keys(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of a store and what their rows were measured with."""
    for about in sorted(root.glob(f"*/{ABOUT}")):
        try:
            yield about.parent, dict(json.loads(about.read_text(encoding="utf-8")))
        except (*DAMAGED, TypeError):
            yield about.parent, {}
