"""The keys under which files have an image's name and its captions, for all readers and messages.

Keys are compared in lower case, with ``_`` for blanks and hyphens.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from phasebench.errors import InputError

IMAGE_KEYS = (
    "image", "file_name", "filename", "image_path", "img_path", "image_name", "image_file", "img", "file",
    "path", "filepath", "file_path", "images", "jpg", "jpeg", "png",
)  # fmt: skip
"""Keys of an image's path, its content, or both; the first one with a value counts."""
CAPTION_KEYS = (
    "captions", "caption", "text", "texts", "raw", "sentences", "sentence", "comment", "comments",
    "description", "descriptions", "caption_str", "reference_strs", "txt",
)  # fmt: skip
"""Keys of one caption or several; the first one with a value counts."""
CONVERSATION_KEYS = ("conversations", "conversation", "messages")
"""Keys of a conversation as in LLaVA's files; its only answer is the caption."""
PAIR_KEYS = ("image_0", "image_1")
"""Keys of the images of a row in Winoground's form."""
ROLES = {"human": "question", "user": "question", "gpt": "answer", "assistant": "answer"}
NUMBERED = re.compile(rf"(?:{'|'.join(CAPTION_KEYS)})_?(\d+)")
"""Keys of captions in several columns, such as ``caption_1``."""
Row = dict[str, Any]


@cache
def _plain(key: str) -> str:
    return re.sub(r"[\s-]+", "_", key.strip().lower())


def plain_keys(row: Mapping[str, Any]) -> Row:
    """The row with its keys as they are compared."""
    return {_plain(key): value for key, value in row.items()}


def names_images(columns: Iterable[str]) -> bool:
    """Whether one of the columns has images."""
    return any(_plain(column) in (*IMAGE_KEYS, *PAIR_KEYS) for column in columns)


def first_value(row: Row, *keys: str, default: Any = None) -> Any:
    """The first value under one of the keys that is not null, NaN or empty, as exports write gaps."""
    values = (row.get(key) for key in keys)
    return next((value for value in values if _is_given(value)), default)


def _is_given(value: Any) -> bool:
    return value is not None and value == value and value not in ("", b"", [], {})  # not NaN


def image_value(row: Row) -> Any:
    """The image of a row with plain keys: its path, its content, or a mapping with both; None if empty.

    Raises:
        ValueError: no key of the row is one of ``IMAGE_KEYS``.
    """
    if not names_images(row):
        raise ValueError(f"no image: {wanted(IMAGE_KEYS, row)}")
    value = first_value(row, *IMAGE_KEYS)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def image_name(row: Row) -> str:
    """The path of a row's image as it is written, within the row's ``image_folder``.

    Raises:
        ValueError: the row has no path of an image.
    """
    value = image_value(row)
    if isinstance(value, Mapping):
        value = first_value(plain_keys(value), *IMAGE_KEYS)
    if not isinstance(value, str):
        raise ValueError("'image' should be a path")
    if re.match(r"https?://", value):
        raise ValueError("'image' is an address on the web; give the path of a file")
    name = re.sub(r"(\.\w+)#\d+$", r"\1", value)  # Flickr30k's name.jpg#0 is the first caption of name.jpg
    folder = image_folder(row)
    return f"{folder}/{name}" if folder else name


def image_folder(row: Row) -> str:
    """The folder of a row's image if it is apart from its name, as in Karpathy's ``filepath``; else ''."""
    folder = row.get("filepath")
    has_name = first_value(row, *IMAGE_KEYS) != folder
    is_folder = isinstance(folder, str) and has_name and not PurePosixPath(folder).suffix
    return str(folder) if is_folder else ""


def captions(row: Row) -> tuple[str, ...]:
    """The captions of a row with plain keys, in order; empty if it has none.

    Raises:
        ValueError: what is under a key of captions is neither a text nor a list of texts.
    """
    for key in CAPTION_KEYS:
        if texts := _texts(key, row.get(key)):
            return texts
    numbered = sorted((int(match[1]), key) for key in row if (match := NUMBERED.fullmatch(key)))
    several = tuple(text for _, key in numbered for text in _texts(key, row[key]))
    return several or _answer(first_value(row, *CONVERSATION_KEYS))


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """The texts in a value: a text, a list in a table's cell, or a list of texts or of objects with one."""
    if isinstance(value, str):
        listed = _list_in(value)
        return stripped([value]) if listed is None else _texts(key, listed)
    if not _is_given(value):
        return ()
    if isinstance(value, Mapping) and set(value) & {*CAPTION_KEYS}:
        return captions(plain_keys(value))
    if isinstance(value, list):
        return tuple(text for entry in value for text in _texts(key, entry))
    raise ValueError(f"'{key}' should be a list of texts")


def stripped(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that are not blank, without blanks around them."""
    return tuple(text.strip() for text in texts if text.strip())


def _list_in(cell: str) -> list[Any] | None:
    """The list of texts that a cell contains as JSON or as Python writes it; None if it has none."""
    if not (cell.lstrip().startswith(("['", '["')) and cell.rstrip().endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell.strip())
        except (ValueError, SyntaxError):
            continue
        return value if isinstance(value, list) else None
    return None


def _answer(turns: Any) -> tuple[str, ...]:
    """The answer of a conversation of one question and one answer; empty for any other."""
    said: dict[str, list[Any]] = {"question": [], "answer": []}
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, Mapping) and (role := ROLES.get(str(turn.get("from", turn.get("role"))))):
            said[role].append(turn.get("value", turn.get("content")))
    if [len(said["question"]), len(said["answer"])] != [1, 1]:
        return ()
    (answer,) = said["answer"]
    return _texts("conversations", answer)


def pair(row: Row) -> list[Row]:
    """The two rows, of one item, of a row in Winoground's form; any other row unchanged."""
    if not all(key in row for key in PAIR_KEYS):
        return [row]
    item = first_value(row, "id", "item", default=f"{row['image_0']}, {row['image_1']}")
    sides = (
        {"image": row[f"image_{side}"], "caption": row.get(f"caption_{side}"), "id": f"{item}_{side}"}
        for side in (0, 1)
    )
    return [{**side, "item": item} for side in sides]


def check_captions(path: object, *, found: bool, keys: Iterable[str]) -> None:
    """Check that a file has captions at all.

    Args:
        path: the file, for the message.
        found: whether any of its rows has a caption.
        keys: the keys of its rows.

    Raises:
        InputError: it has none; the message names the keys that are read and those of the file.
    """
    if not found:
        answers = f"; or {', '.join(CONVERSATION_KEYS)} with one question and one answer"
        raise InputError(f"{path}: no row has a caption: {wanted(CAPTION_KEYS, keys)}{answers}")


def wanted(looked_for: Iterable[str], keys: Iterable[str]) -> str:
    """A part of a message: the keys that are read, and those that a file has instead."""
    return f"its keys are {', '.join(keys) or 'none'}; read are {', '.join(looked_for)}"
