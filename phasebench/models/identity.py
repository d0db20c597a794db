"""The digest of a checkpoint: what tells whether two results are of the same weights.

Files are hashed in pieces by several threads, which is as fast as the disk. The digests
of large files are remembered in the cache folder as long as the files do not change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path

from phasebench.files import write_whole

PIECE = 1 << 26
"""Bytes that one thread hashes at a time; files of at least this size are remembered."""
BLOCK = 1 << 20
THREADS = min(8, os.cpu_count() or 1)
MEMORY = "digests.json"
"""Name of the file in the cache folder that remembers the digests."""
EXTRA_FILES = ("*.py", "adapter_config.json", "adapter_model.*")
"""Patterns of files beside weights that can change what the model computes."""
Mark = list[int]
"""Size, times of the last change of content and of anything, and number of a file on its disk."""


def checkpoint_digest(folder: Path, weights: Sequence[Path], cache: Path | None = None) -> str:
    """The digest of a checkpoint, computed now; arguments as for ``PendingDigest``."""
    with PendingDigest(folder, weights, cache) as pending:
        return pending.result()


class PendingDigest:
    """The digest of a checkpoint's configuration, weights, adapter files and own code, computed by threads.

    Use it as a context manager: when the ``with`` block ends, no more pieces are read.
    """

    def __init__(self, folder: Path, weights: Sequence[Path], cache: Path | None = None) -> None:
        """Begin to read.

        Args:
            folder: the checkpoint's folder.
            weights: its weight files.
            cache: the folder that remembers digests of large files; None remembers nothing.
        """
        extra_files = [path for pattern in EXTRA_FILES for path in folder.glob(pattern)]
        self._marks = {path: _mark(path) for path in sorted({folder / "config.json", *weights, *extra_files})}
        self._cache = cache
        self._remembered = _recall(cache)
        self._threads = ThreadPoolExecutor(THREADS)
        self._pieces = {
            path: [
                self._threads.submit(_hash_piece, path, start) for start in range(0, max(mark[0], 1), PIECE)
            ]
            for path, mark in self._marks.items()
            if self._known(path) is None
        }

    def __enter__(self) -> PendingDigest:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the pieces that nobody has begun."""
        self._threads.shutdown(cancel_futures=True)

    def result(self) -> str:
        """The digest, 16 hexadecimal characters, once all is read."""
        new = {path: _joined(piece.result() for piece in pieces) for path, pieces in self._pieces.items()}
        large = {path: digest for path, digest in new.items() if self._marks[path][0] >= PIECE}
        if self._cache is not None and large:
            entries = {_key(path): {"mark": self._marks[path], "digest": large[path]} for path in large}
            _remember(self._cache, {**self._remembered, **entries})
        state = blake2b(digest_size=8)
        for path in self._marks:
            state.update(path.name.encode() + (new.get(path) or str(self._known(path))).encode())
        return state.hexdigest()

    def _known(self, path: Path) -> str | None:
        """The remembered digest of a file; None if there is none, or if the file has changed."""
        entry = self._remembered.get(_key(path), {})
        return str(entry["digest"]) if entry.get("mark") == self._marks[path] else None


def _key(path: Path) -> str:
    return str(path.resolve())


def _joined(pieces: Iterable[bytes]) -> str:
    return sha256(b"".join(pieces)).hexdigest()


def _hash_piece(path: Path, start: int) -> bytes:
    """The SHA-256 of the piece that begins at byte ``start``."""
    state = sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = PIECE
        while left and (block := file.read(min(BLOCK, left))):
            state.update(block)
            left -= len(block)
    return state.digest()


def _mark(path: Path) -> Mark:
    """What changes if a file is written: no program sets the time of the last change of anything."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _recall(cache: Path | None) -> dict[str, dict[str, object]]:
    """Path -> mark and digest; empty if there is no such file, or if it is damaged."""
    if cache is None:
        return {}
    with suppress(OSError, ValueError):
        entries = json.loads((cache / MEMORY).read_text(encoding="utf-8"))
        if isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values()):
            return entries
    return {}


def _remember(cache: Path, entries: Mapping[str, Mapping[str, object]]) -> None:
    """Write the digests of files that still exist; without room on the disk they are not remembered."""
    existing = {path: entry for path, entry in entries.items() if Path(path).is_file()}
    with suppress(OSError):
        write_whole(cache / MEMORY, (json.dumps(existing, indent=1) + "\n").encode())
