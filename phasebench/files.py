"""Files that appear whole or not at all; the cache folder; phasebench's own cases and baselines."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import platformdirs

from phasebench.errors import InputError

ENVIRONMENT = "PHASEBENCH_CACHE"
UNWRITABLE = f"cannot write into the cache folder (name another: --phasebench-cache, {ENVIRONMENT})"


def cache_folder() -> Path:
    """``$PHASEBENCH_CACHE``, or the user's cache folder of this platform."""
    return Path(os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("phasebench"))


def store_folder(asked: Path | None) -> Path:
    """Where finished images are kept: ``--store``, or in the cache folder."""
    return asked or cache_folder() / "store"


def made_once(folder: Path, make: Callable[[Path], None], unwritable: str = UNWRITABLE) -> Path:
    """``folder``, filled by ``make`` if it is not there yet.

    ``make`` fills a folder beside it that is then renamed, so that a killed process leaves nothing
    half made and of two processes at once one wins.

    Raises:
        InputError: nothing can be written there; ``unwritable`` says where, and the way out.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{unwritable}: {error}") from error
    try:
        make(partial)
        for path in (partial, *partial.rglob("*")):  # mkdtemp and safetensors make them private
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def utf8(text: str) -> bytes:
    """The text in UTF-8; what a file's name has that is none as ``\\udce9``."""
    return text.encode(errors="backslashreplace")


def write_whole(path: Path, data: bytes) -> None:
    """Write beside ``path`` and rename: what was there stays until all of ``data`` is, whoever else writes.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def packaged(name: str) -> Path:
    """The folder ``cases`` or ``baselines`` of phasebench itself, in a checkout or installed."""
    found = importlib.util.find_spec(f"phasebench.{name}")
    if found is not None and found.submodule_search_locations:
        return Path(found.submodule_search_locations[0])
    return Path(__file__).resolve().parents[1] / name
