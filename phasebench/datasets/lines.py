"""Reading the rows of text files: JSON Lines, JSON and tables. Errors name the file and the line or row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from phasebench.datasets.json_forms import rows_of_json
from phasebench.datasets.keys import Row, plain_keys
from phasebench.datasets.sample import Sample
from phasebench.datasets.tables import table_rows
from phasebench.errors import InputError

PlacedRows = Iterator[tuple[str, Callable[[], Any]]]
"""Where a row is (``line 3``), and a function that parses it, so that its errors can name the place."""


def read_lines(path: Path, content: str, parse: Callable[[Row], list[Sample]]) -> list[Sample]:
    """The samples of all lines of a ``.jsonl``, or rows of a ``.json`` or a table; blank lines are skipped.

    Args:
        path: the file.
        content: the expected content of a line, for the message.
        parse: row with plain keys -> samples; it raises KeyError, TypeError or ValueError for an invalid row.

    Raises:
        InputError: the file cannot be read, a line is invalid, or there are no lines.
    """
    samples = []
    for place, row in _rows(path, read_text(path)):
        try:
            samples += parse(_object(row()))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, {place}: not {content}: {error!r}") from error
    if not samples:
        raise InputError(f"no items in {path}")
    return samples


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error


def parse_json(path: Path, text: str) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def is_json(path: Path, text: str) -> bool:
    """Whether a file is one JSON value; ``.json`` files may have a value in each line instead."""
    if path.suffix.lower() not in (".json", ".jsonl"):
        return False
    if path.suffix.lower() == ".jsonl":
        return text.lstrip().startswith("[")
    first_line, _, more = text.lstrip().partition("\n")
    try:
        return not more.strip() or not isinstance(json.loads(first_line), dict)
    except json.JSONDecodeError:
        return True


def _rows(path: Path, text: str) -> PlacedRows:
    if is_json(path, text):
        rows = rows_of_json(path, parse_json(path, text))
        return ((f"row {number}", partial(_same, row)) for number, row in enumerate(rows, 1))
    if path.suffix.lower() in (".json", ".jsonl"):
        lines = enumerate(text.split("\n"), 1)  # splitlines() would split captions too
        return ((f"line {number}", partial(json.loads, line)) for number, line in lines if line.strip())
    return ((f"line {number}", row) for number, row in table_rows(path, text))


def _same(row: Any) -> Any:
    return row


def _object(row: Any) -> Row:
    if not isinstance(row, dict):
        raise TypeError("not an object")
    return plain_keys(row)
