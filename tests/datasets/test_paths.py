"""Finding images by names that differ from those of the files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from phasebench.datasets.paths import ImageFinder, folders_of_images, image_files


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def form(kind: str, text: str) -> str:
    return unicodedata.normalize(kind, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("a.png", " a.png "),
        ("sub/a.png", r"sub\a.png"),
        ("sub/a.png", r".\sub\a.png"),
        (form("NFD", "café.png"), form("NFC", "café.png")),
        (form("NFC", "가.png"), form("NFD", "가.png")),
        (form("NFD", "été/a.png"), form("NFC", "été/a.png")),
        ("a.JPG", "a.jpg"),
        ("a.png", "a"),
        ("Images/a.png", "a.png"),
        ("Images/x/a.png", "x/a.png"),
        ("a.png", "data/a.png"),
        ("images/a.png", "data/images/a.png"),
        (".hidden.png", ".hidden.png"),
    ],
)
def test_a_name_may_differ_from_the_file_in_its_spelling(tmp_path: Path, there: str, name: str) -> None:
    folder = touch(tmp_path / "data", there)
    assert ImageFinder([folder])(name) == folder / there


def test_a_name_may_lead_out_of_the_folder_or_be_absolute(tmp_path: Path) -> None:
    folder = touch(tmp_path, "images/a.png", "lists/x.jsonl") / "lists"
    for name in ("../images/a.png", r"..\images\a.png", str(tmp_path / "images" / "a.png")):
        assert ImageFinder([folder])(name).samefile(tmp_path / "images" / "a.png")


def test_a_name_that_several_files_match_is_missing(tmp_path: Path) -> None:
    folder = touch(tmp_path, "one/a.png", "two/a.png", "B.png", "b.PNG")
    assert ImageFinder([folder])("a.png") == folder / "a.png"
    assert ImageFinder([folder])("b.png") == folder / "b.png"
    assert ImageFinder([folder])("gone.png") == folder / "gone.png"
    assert ImageFinder([folder])("a\0.png") == folder / "a\0.png"


def test_the_split_is_left_out_of_a_name_only_if_it_is_no_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path, "images/a.png", "val/b.png", "b.png")
    find = ImageFinder([folder, folder / "images"])
    assert find("val2014/a.png", "val2014") == folder / "images" / "a.png"
    assert find("val/b.png", "val") == folder / "val" / "b.png"
    assert find("train/b.png") == folder / "train" / "b.png"


def test_hidden_files_and_those_of_other_programs_are_no_pictures(tmp_path: Path) -> None:
    names = ("a.png", "._a.png", ".b.png", "c.txt", "d.HEIC", "e.png/f.png", "__MACOSX/g.png", "@eaDir/h.png")
    folder = touch(tmp_path, *names, ".thumbnails/i.png")
    assert [path.name for path in image_files(folder)] == ["a.png", "d.HEIC"]
    assert [path.name for path in folders_of_images(folder)] == ["e.png"]
    assert ImageFinder([folder])("g.png") == folder / "g.png"
