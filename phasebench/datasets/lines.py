"""Reading JSON Lines files and CSV tables; errors name the file and the line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

NAMES = ("image", "file_name")
"""Keys for an image's path; the second is the one of Hugging Face's imagefolder."""
Row = dict[str, Any]
NumberedRows = Iterable[tuple[int, Callable[[], Row]]]
"""A line's number, and a function that parses it, so that an error in parsing can name the line."""


def read_lines(path: Path, content: str, parse: Callable[[Row], list[Sample]]) -> list[Sample]:
    """The samples of all lines, or of all rows of a ``.csv``; blank lines are skipped.

    Args:
        path: the file.
        content: the expected content of a line, for the message.
        parse: line -> samples; it raises KeyError, TypeError or ValueError for an invalid line.

    Raises:
        InputError: the file cannot be read, a line is invalid, or there are no lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error
    samples = []
    for number, row in _rows(path, text) if path.suffix == ".csv" else _objects(text):
        try:
            samples += parse(row())
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not {content}: {error!r}") from error
    if not samples:
        raise InputError(f"no items in {path}")
    return samples


def _objects(text: str) -> NumberedRows:
    lines = text.split("\n")  # splitlines() would split captions too
    return ((number, partial(json.loads, line)) for number, line in enumerate(lines, 1) if line.strip())


def _rows(path: Path, text: str) -> NumberedRows:
    """The rows below a table's header; a quoted cell may have line feeds."""
    reader, first_line = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True), 1
    try:
        columns = reader.fieldnames or []
        if not {*NAMES} & {*columns}:
            raise InputError(
                f"{path}, line 1: of its columns, {', '.join(columns) or 'none'}, none is called "
                f"{' or '.join(NAMES)}; columns are separated by commas"
            )
        first_line = reader.line_num + 1
        for row in reader:
            # Spreadsheets leave rows of commas; cells beyond the header come as a list.
            if any(any(cell) if isinstance(cell, list) else cell for cell in row.values()):
                yield reader.line_num, partial(_non_empty_cells, row)
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: the row that begins at line {first_line} cannot be read ({error}): a quote in it is "
            "not closed, or stands within a cell and is not doubled"
        ) from error


def _non_empty_cells(row: dict[str | None, Any]) -> Row:
    """The cells with content, by their columns."""
    if any(row.get(None) or ()):  # where csv puts cells beyond the header
        raise ValueError(f"more cells than the {len(row) - 1} columns; quote a caption with commas in it")
    return {name: cell for name, cell in row.items() if name and cell}
