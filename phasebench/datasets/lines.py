"""Files of one JSON object a line, and tables; what is wrong with a line is told with file and number."""

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
"""What an image's path may be called; the second is of Hugging Face's imagefolder."""
Row = dict[str, Any]
Numbered = Iterable[tuple[int, Callable[[], Row]]]
"""A line's number, and what reads it: what is wrong with a line is found when its number is known."""


def read_lines(path: Path, what: str, samples_of: Callable[[Row], list[Sample]]) -> list[Sample]:
    """The samples of every line, of a ``.csv`` of every row; blank ones are none.

    Args:
        path: the file.
        what: what a line should be, for the error.
        samples_of: line -> samples; a KeyError, TypeError or ValueError of it is the line's fault.

    Raises:
        InputError: the file cannot be read, a line is not what it should be, or there is none.
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
            samples += samples_of(row())
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not {what}: {error!r}") from error
    if not samples:
        raise InputError(f"no items in {path}")
    return samples


def _objects(text: str) -> Numbered:
    lines = text.split("\n")  # splitlines() would split captions too
    return ((number, partial(json.loads, line)) for number, line in enumerate(lines, 1) if line.strip())


def _rows(path: Path, text: str) -> Numbered:
    """The rows below a table's header; a cell may have line feeds, quoted."""
    reader, begins = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True), 1
    try:
        columns = reader.fieldnames or []
        if not {*NAMES} & {*columns}:
            raise InputError(
                f"{path}, line 1: of its columns, {', '.join(columns) or 'none'}, none is called "
                f"{' or '.join(NAMES)}; columns are separated by commas"
            )
        begins = reader.line_num + 1
        for row in reader:
            # Spreadsheets leave rows of commas; what is beyond the header is a list.
            if any(any(cell) if isinstance(cell, list) else cell for cell in row.values()):
                yield reader.line_num, partial(_filled, row)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: the row that begins at line {begins} cannot be read ({error}): a quote in it is not "
            "closed, or stands within a cell and is not doubled"
        ) from error


def _filled(row: dict[str | None, Any]) -> Row:
    """The cells that say something, by their columns."""
    if any(row.get(None) or ()):  # where csv puts what is beyond the header
        raise ValueError(f"more cells than the {len(row) - 1} columns; quote a caption with commas in it")
    return {name: cell for name, cell in row.items() if name and cell}
