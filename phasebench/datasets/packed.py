"""Files that contain the images: Parquet tables and webdataset's tars, unpacked once into the cache."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from phasebench.datasets import keys
from phasebench.datasets.keys import Row
from phasebench.datasets.paths import is_picture, is_visible
from phasebench.errors import InputError
from phasebench.files import SAFE_IN_NAMES, make_folder_once

ENDINGS = (".parquet", ".tar")
LIST = "captions.jsonl"
TEXTS = ("txt", "text", "caption")
"""Endings of a tar's files with captions, one per line."""


def unpack(path: Path, cache: Path) -> Path:
    """The list of the images of a packed file, with the images beside it in a folder of ``cache``.

    Raises:
        InputError: the file cannot be read, or has no images with captions.
    """
    name = "".join(letter for letter in path.stem if letter in SAFE_IN_NAMES)
    state = path.resolve(), path.stat().st_size, path.stat().st_mtime_ns
    digest = hashlib.blake2b(repr(state).encode(errors="surrogateescape"), digest_size=6).hexdigest()
    return make_folder_once(cache / f"unpacked-{name}-{digest}", partial(_unpack, path)) / LIST


def _unpack(path: Path, folder: Path) -> None:
    try:
        if path.suffix.lower() == ".parquet":
            write_rows(path, _table_rows(path), ImageFolder(folder))
        else:
            images = ImageFolder(folder)
            write_rows(path, _tar_rows(path, images), images)
    except InputError:
        raise
    except Exception as error:  # pyarrow and tarfile raise many types
        raise InputError(f"{path} cannot be unpacked: {type(error).__name__}: {error}") from error


class ImageFolder:
    """A folder in which equal images become one file, and so one image with several captions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: dict[str, str] = {}

    def store(self, content: bytes, original: str = "") -> str:
        """Write an image, if it is not there yet; returns its name.

        Args:
            content: the content of its file.
            original: the name that it had, which the new name begins with.
        """
        digest = hashlib.blake2b(content, digest_size=6).hexdigest()
        if digest not in self._names:
            name = PurePosixPath(original.replace("\\", "/"))
            stem = "".join(letter for letter in name.stem if letter in SAFE_IN_NAMES).lstrip(".")
            self._names[digest] = f"{stem or 'image'}-{digest}{name.suffix if is_picture(name.name) else ''}"
            (self.path / self._names[digest]).write_bytes(content)
        return self._names[digest]

    def has(self, name: str) -> bool:
        """Whether an image was written under this name."""
        return name in self._names.values()


def write_rows(path: Path, rows: Iterable[Row], images: ImageFolder) -> None:
    """Write the images of rows as files, and the list that names them.

    Args:
        path: the packed file, for messages, and for images that it only names.
        rows: the rows, with any keys.
        images: the folder to fill.

    Raises:
        InputError: a row is not an image with captions, or no row has captions.
    """
    lines: list[Row] = []
    found_keys: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        found_keys.update(dict.fromkeys(row))
        try:
            lines += [_line(path, single, number, images) for single in keys.pair(keys.plain_keys(row))]
        except ValueError as error:
            raise InputError(f"{path}, row {number}: not an image with captions: {error}") from error
    keys.check_captions(path, found=any(line["captions"] for line in lines), keys=found_keys)
    (images.path / LIST).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def _line(path: Path, row: Row, number: int, images: ImageFolder) -> Row:
    """A line of the list; an image that is null, or that has no file, is missing when it is opened."""
    value = keys.image_value(row)
    image = keys.plain_keys(value) if isinstance(value, Mapping) else {"bytes": value}
    content, name = image.get("bytes"), image.get("path")
    if isinstance(content, bytes):
        name = images.store(content, str(name or ""))
    elif not name and isinstance(content, str):
        name = content if images.has(content) else str(path.parent.resolve() / content)
    elif name:
        name = str(path.parent.resolve() / name)
    given = {key: row[key] for key in ("id", "item") if keys.first_value(row, key) is not None}
    return {"image": name or f"row-{number}", **given, "captions": list(keys.captions(row))}


def _table_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet table."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=64):
            yield from batch.to_pylist()


def _tar_rows(path: Path, images: ImageFolder) -> Iterator[Row]:
    """The rows of a webdataset: a picture and a text, or an object with captions, with the same key.

    Pictures are written at once, so that only texts are in memory; members of one key may be anywhere.
    """
    rows: dict[str, Row] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            where = PurePosixPath(member.name)
            stream = archive.extractfile(member) if all(map(is_visible, where.parts)) else None
            if stream is not None:
                key = str(where.parent / where.name.partition(".")[0])
                _add_member(rows.setdefault(key, {"id": key}), where, stream.read(), images)
    pictures = [row for row in rows.values() if "image" in row]
    if not any(keys.captions(keys.plain_keys(row)) for row in pictures):
        endings = ", ".join(f".{ending}" for ending in (*TEXTS, "json"))
        raise InputError(
            f"{path}: none of its {len(pictures)} pictures has captions in a file of the same name "
            f"({endings}); if it has a list of its images, unpack it and give that list"
        )
    yield from pictures


def _add_member(row: Row, where: PurePosixPath, content: bytes, images: ImageFolder) -> None:
    """Add a file of the tar to the row of its key."""
    ending = where.suffix.lower().removeprefix(".")
    if is_picture(where.name):
        row.setdefault("image", images.store(content, where.name))
    elif ending in TEXTS:
        row["captions"] = content.decode("utf-8-sig").splitlines()
    elif ending == "json" and isinstance(data := json.loads(content), dict):
        data = {key: value for key, value in keys.plain_keys(data).items() if key not in keys.IMAGE_KEYS}
        row.update({**data, **row})
