"""Reading tables: CSV with any usual delimiter, and Flickr's ``name.jpg#0<TAB>caption`` without a header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path

from phasebench.datasets.keys import IMAGE_KEYS, Row, names_images, wanted
from phasebench.datasets.paths import PICTURES
from phasebench.errors import InputError

QUOTING, PLAIN = ",;", "\t|"
"""Delimiters of tables in which cells may be quoted, and of those in which a line is a row as it stands."""
_ENDINGS = "|".join(re.escape(ending) for ending in PICTURES)
HEADERLESS = re.compile(rf"\s*(?P<name>[^\t|;,]+?(?:{_ENDINGS})(?:#\d+)?)\s*[\t|;,](?P<caption>.*)", re.I)
"""A row of a table without a header: an image's name and a caption, in which the delimiter may occur."""
Cells = list[str]
NumberedRows = Iterator[tuple[int, Callable[[], Row]]]
"""A line's number, and a function that parses it, so that an error in parsing can name the line."""


def table_rows(path: Path, text: str) -> NumberedRows:
    """The rows of a table, each with the number of its last line; rows without content are skipped.

    Raises:
        InputError: the table has no column of images, or a quote in it is not closed.
    """
    header = text.split("\n", 1)[0]
    if HEADERLESS.fullmatch(header.rstrip("\r")):
        return _headerless_rows(text)
    delimiter = _delimiter(path, header)
    rows = _quoted(path, text, delimiter) if delimiter in QUOTING else _plain(text, delimiter)
    _, columns = next(rows)
    return ((number, partial(_row, columns, cells)) for number, cells in rows if any(cells))


def lists_images(header: str) -> bool:
    """Whether a file's first line is one of a table of images."""
    return bool(HEADERLESS.fullmatch(header.strip("\r\n"))) or any(_image_columns(header))


def _image_columns(header: str) -> Iterable[tuple[int, str]]:
    """The delimiters with which the header has a column of images, each with its number of columns."""
    split = ((delimiter, _cells(header, delimiter)) for delimiter in QUOTING + PLAIN)
    return [(len(columns), delimiter) for delimiter, columns in split if names_images(columns)]


def _delimiter(path: Path, header: str) -> str:
    found = _image_columns(header)
    if not found:
        keys = re.split(r"\s*[,;\t|]\s*", header.strip())
        raise InputError(f"{path}, line 1: no column of images: {wanted(IMAGE_KEYS, filter(None, keys))}")
    return max(found, key=lambda pair: pair[0])[1]


def _cells(line: str, delimiter: str) -> Cells:
    """The cells of a line without line feeds in them."""
    if delimiter in PLAIN:
        return [_unquoted(cell.strip()) for cell in line.split(delimiter)]
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _unquoted(cell: str) -> str:
    is_quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if is_quoted else cell


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, Cells]]:
    for number, line in enumerate(text.split("\n"), 1):
        yield number, _cells(line, delimiter)


def _quoted(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, Cells]]:
    """The rows with the header; a quoted cell may have line feeds."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    first_line = 1
    try:
        for cells in reader:
            yield reader.line_num, cells
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: the row that begins at line {first_line} cannot be read ({error}): a quote in it is "
            "not closed, or stands within a cell and is not doubled"
        ) from error


def _row(columns: Cells, cells: Cells) -> Row:
    """The cells by their columns; None for an empty cell."""
    if any(cells[len(columns) :]):
        raise ValueError(f"more cells than the {len(columns)} columns; quote a caption with delimiters in it")
    return {name: cell or None for name, cell in zip_longest(columns, cells[: len(columns)]) if name}


def _headerless_rows(text: str) -> NumberedRows:
    lines = enumerate(text.split("\n"), 1)
    return ((number, partial(_headerless_row, line)) for number, line in lines if line.strip())


def _headerless_row(line: str) -> Row:
    match = HEADERLESS.fullmatch(line.rstrip("\r"))
    if match is None:
        raise ValueError("no name of an image with a caption after it")
    return {"image": match["name"], "caption": _unquoted(match["caption"].strip())}
