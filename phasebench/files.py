"""Writing files atomically; the cache folder; the folders of phasebench's own cases and baselines."""

from __future__ import annotations

import errno
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
UNWRITABLE = f"cannot write into the cache folder (set the variable {ENVIRONMENT} to another folder)"

SAFE_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""Characters allowed in names of models and findings, because these become names of files."""


def cache_folder() -> Path:
    """``$PHASEBENCH_CACHE``, or phasebench's folder in the user's cache folder on this platform."""
    return Path(os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("phasebench")).expanduser()


def store_folder(folder: Path | None) -> Path:
    """The folder for rows of finished images: ``folder``, by default ``store`` in the cache folder."""
    return folder or cache_folder() / "store"


def make_folder_once(
    folder: Path, make: Callable[[Path], None], unwritable: str = UNWRITABLE, remedy: str = "cache"
) -> Path:
    """``folder``, filled by ``make`` if it does not exist yet.

    ``make`` fills a temporary folder beside it, which is then renamed. So a killed process leaves nothing
    unfinished in place, and if two processes do this at once, one of them wins.

    Args:
        folder: the folder to make.
        make: a function that fills the folder at the path that it gets.
        unwritable: the beginning of the message if nothing can be written there.
        remedy: the setting that would help in that case, a key of ``settings.REMEDIES``.

    Raises:
        InputError: nothing can be written there.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{unwritable}: {error}", remedy=remedy) from error
    try:
        make(partial)
        for path in (partial, *partial.rglob("*")):  # mkdtemp and safetensors make them private
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise InputError(f"{unwritable}: {error}", remedy=remedy) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def is_disk_full(error: Exception) -> bool:
    """Whether an error, of any library, says that a disk is full or read-only."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return any(os.strerror(code) in str(error) for code in codes)  # safetensors has its own exceptions


def utf8(text: str) -> bytes:
    """The text in UTF-8; lone surrogates, as in names of files that are not UTF-8, become ``\\udce9``."""
    return text.encode(errors="backslashreplace")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: the old content stays in place until all of ``data`` is written.

    Raises:
        OSError: it cannot be written; no temporary file is left.
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


def packaged_folder(name: str) -> Path:
    """phasebench's own folder ``cases`` or ``baselines``, in a checkout or in an installed package."""
    spec = importlib.util.find_spec(f"phasebench.{name}")
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    return Path(__file__).resolve().parents[1] / name
