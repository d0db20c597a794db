"""A row as bytes: a compressed NumPy archive that ends in a checksum."""

from __future__ import annotations

import io
import json
import zipfile
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from phasebench.curves import Array
from phasebench.measurement.passes import Row

READ_ERRORS = (OSError, ValueError, KeyError, zipfile.BadZipFile)
"""The exceptions that reading a damaged file, or a file of another version, can raise."""
CHECKSUM_SIZE = 16
"""Size in bytes of the checksum; it is the comment of the archive, at the very end of the file."""


def pack(row: Row) -> bytes:
    """Pack a row: its curves exactly, its norms to about three digits relative to their layer's largest."""
    largest = np.nan_to_num(row.norms).max(axis=1, initial=0.0, keepdims=True)
    scaled = np.divide(row.norms, largest, out=np.where(np.isnan(row.norms), np.nan, 0.0), where=largest > 0)
    about = {
        "curves": list(row.curves),
        "layout": row.layout,
        "seconds": row.seconds,
        "plain_seconds": row.plain_seconds,
    }
    archive = io.BytesIO()
    np.savez_compressed(
        archive,
        about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        curves=_smallest_exact(np.stack(list(row.curves.values()))),
        tokens=row.tokens.astype(np.min_scalar_type(row.tokens.max(initial=0))),
        norms=scaled.astype(np.float16),
        largest=largest,
    )
    with zipfile.ZipFile(archive, "a") as appended:
        appended.comment = bytes(CHECKSUM_SIZE)
    data = archive.getvalue()[:-CHECKSUM_SIZE]
    return data + _checksum(data)


def unpack(data: bytes) -> Row:
    """The row that ``pack`` packed.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile: the bytes are damaged (see ``READ_ERRORS``).
    """
    if data[-CHECKSUM_SIZE:] != _checksum(data[:-CHECKSUM_SIZE]):
        raise ValueError("checksum")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        about = json.loads(bytes(arrays["about"]))
        curves = dict(zip(about["curves"], arrays["curves"].astype(np.float64), strict=True))
        norms = arrays["norms"].astype(np.float64) * arrays["largest"]
        tokens = arrays["tokens"].astype(np.int32)
        return Row(curves, tokens, norms, about["layout"], about["seconds"], about["plain_seconds"])


def _smallest_exact(curves: Array) -> npt.NDArray[Any]:
    """The curves in single precision if that loses nothing (most were computed in it), else unchanged."""
    single = curves.astype(np.float32)
    return single if np.array_equal(single, curves, equal_nan=True) else curves


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECKSUM_SIZE).digest()
