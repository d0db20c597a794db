"""Tables with any delimiter, with and without a header."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.datasets.tables import lists_images, table_rows
from phasebench.errors import InputError


def rows(*lines: str) -> list[dict[str, str]]:
    return [row() for _, row in table_rows(Path("x.txt"), "\n".join(lines))]


A_CAT = [{"image": "a.jpg", "caption": "a cat, asleep"}]


@pytest.mark.parametrize(
    "lines",
    [
        ("image,caption", 'a.jpg,"a cat, asleep"'),
        ("image;caption", "a.jpg;a cat, asleep"),
        ("image\tcaption", "a.jpg\ta cat, asleep"),
        ("image|caption\r", "a.jpg| a cat, asleep\r", "\r"),
        ('"image"\t"caption"', '"a.jpg"\t"a cat, asleep"'),
    ],
)
def test_the_delimiter_is_found_in_the_header(lines: tuple[str, ...]) -> None:
    assert rows(*lines) == A_CAT


def test_flickr30ks_table_is_read() -> None:
    """Its captions have quotes that are not doubled, and one of its rows lacks a delimiter."""
    table = ("image_name| comment_number| comment", 'a.jpg| 0| "No" says a sign .', "a.jpg| 4   A dog runs .")
    assert rows(*table) == [
        {"image_name": "a.jpg", "comment_number": "0", "comment": '"No" says a sign .'},
        {"image_name": "a.jpg", "comment_number": "4   A dog runs .", "comment": None},
    ]


@pytest.mark.parametrize(
    "line",
    ["a.jpg#0\ta cat, asleep", "a.jpg#4\ta cat, asleep\r", "a.jpg,a cat, asleep", 'a.jpg|"a cat, asleep"'],
)
def test_a_table_may_lack_a_header(line: str) -> None:
    (row,) = rows(line, "")
    assert (row["image"].partition("#")[0], row["caption"]) == ("a.jpg", "a cat, asleep")


def test_a_row_without_an_image_is_named_in_a_table_without_a_header() -> None:
    (_, first), (number, second) = table_rows(Path("x.token"), "a.jpg#0\ta cat\nno image")
    assert first() == {"image": "a.jpg#0", "caption": "a cat"}
    assert number == 2
    with pytest.raises(ValueError, match="no name of an image"):
        second()


def test_a_table_of_something_else_is_told_the_columns() -> None:
    with pytest.raises(
        InputError, match=r"x\.txt, line 1: no column of images: its keys are label, score; read"
    ):
        rows("label\tscore", "cat\t3")


@pytest.mark.parametrize(
    ("header", "expected"),
    [("image,caption\n", True), ("a.jpg#0\ta cat", True), ("a caption, of one image", False), ("", False)],
)
def test_a_table_of_images_is_recognized_by_its_first_line(header: str, *, expected: bool) -> None:
    assert lists_images(header) is expected
