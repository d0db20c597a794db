"""Lists of images in JSONL and CSV files, and folders of images with text files beside them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasebench.datasets.image_list import read_list
from phasebench.datasets.layouts import read_folder
from phasebench.datasets.named_datasets import bundled_datasets, official_datasets, resolve_datasets
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError


def write_list(path: Path, *lines: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def test_a_line_has_an_image_and_its_captions(tmp_path: Path) -> None:
    path = write_list(
        tmp_path / "x.jsonl",
        {"image": "a.png", "captions": [" a cat ", "", "a dog"]},
        "",
        {"image": "sub/b.png", "caption": "ein Hund", "id": 7, "item": "pair"},
        {"file_name": "c.png", "text": "一只猫"},
        {"image": "d.png"},
        {"image": "e.png", "captions": None},
    )
    assert [(s.id, s.path, s.captions, s.item) for s in read_list(path)] == [
        ("a.png", tmp_path / "a.png", ("a cat", "a dog"), "a.png"),
        ("7", tmp_path / "sub" / "b.png", ("ein Hund",), "pair"),
        ("c.png", tmp_path / "c.png", ("一只猫",), "c.png"),
        ("d.png", tmp_path / "d.png", (), "d.png"),
        ("e.png", tmp_path / "e.png", (), "e.png"),
    ]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """JSON allows Unicode's own line separators inside of a text."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"image": "a.png", "caption": "a dog\u2028runs\x85 on"}\r\n', encoding="utf-8")
    assert [s.captions for s in read_list(path)] == [("a dog\u2028runs\x85 on",)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "not an object"),
        ({"captions": ["a"]}, "no image: its keys are captions; read are image, file_name, "),
        ({"image": "https://a.org/a.png", "caption": "a"}, "'image' is an address on the web"),
        ({"image": 3, "captions": ["a"]}, "'image' should be a path"),
        ({"image": "a.png", "captions": [1]}, "'captions' should be a list of texts"),
        ({"image": "a.png", "captions": {"en": "a"}}, "'captions' should be a list of texts"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write_list(tmp_path / "x.jsonl", {"image": "a.png", "caption": "a"}, line)
    with pytest.raises(InputError, match=rf"x\.jsonl, line 2: not an image with captions: .*{message}"):
        read_list(path)


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_list(tmp_path / "x.jsonl", {"image": "a.png", "caption": "a"})
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read_list(path)) == 1


def test_a_list_that_is_empty_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no items in .*x\.jsonl"):
        read_list(write_list(tmp_path / "x.jsonl"))
    (tmp_path / "y.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"y\.jsonl is not UTF-8"):
        read_list(tmp_path / "y.jsonl")


def test_text_files_beside_images_have_their_captions(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.webp"):
        write_image(tmp_path / name)
    (tmp_path / "a.txt").write_text("a cat\n\n a pet \n", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_text("кот", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no image")
    samples = read_folder(tmp_path)
    assert [(sample.id, sample.captions) for sample in samples] == [
        ("a.jpg", ("a cat", "a pet")),
        ("b.png", ("кот",)),
        ("c.webp", ()),
    ]
    (tmp_path / "b.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"b\.txt is not UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("captions.jsonl", [{"image": "a.png", "caption": "a cat"}]),
        ("metadata.jsonl", [{"file_name": "a.png", "text": "a cat"}]),
        ("captions.csv", ["image,caption", "a.png,a cat"]),
        ("metadata.csv", ["file_name,text", "a.png,a cat"]),
    ],
)
def test_a_folder_may_have_a_list(tmp_path: Path, name: str, lines: list[Any]) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "not-listed.png")
    write_list(tmp_path / name, *lines)
    assert [(sample.id, sample.captions) for sample in read_folder(tmp_path)] == [("a.png", ("a cat",))]


def test_a_table_has_a_row_for_each_caption(tmp_path: Path) -> None:
    path = write_list(
        tmp_path / "x.csv",
        "item,image,caption,split",
        'pair,a.png,"a cat, asleep",train',
        "",
        'pair,sub/b.png,"two\nlines"',
        "pair,a.png,a pet,train",
        ",c.png,,,",
        ",,,",
        ",,,,,",
        ",d.png, two words ,",
    )
    path.write_text(path.read_text(), encoding="utf-8-sig", newline="\r\n")
    assert read_list(path) == [
        Sample("a.png", tmp_path / "a.png", ("a cat, asleep", "a pet"), "pair"),
        Sample("sub/b.png", tmp_path / "sub" / "b.png", ("two\nlines",), "pair"),
        Sample("c.png", tmp_path / "c.png", (), "c.png"),
        Sample("d.png", tmp_path / "d.png", ("two words",), "d.png"),
    ]
    spaced = write_list(tmp_path / "y.csv", "image, caption", "a.png, a cat")
    assert [sample.captions for sample in read_list(spaced)] == [("a cat",)]


def test_a_faulty_row_is_named(tmp_path: Path) -> None:
    path = write_list(tmp_path / "x.csv", "image,caption", '"a.png","two', 'lines"', ",a cat")
    with pytest.raises(InputError, match=r"x\.csv, line 4: not an image with captions: .*'image'"):
        read_list(path)
    path = write_list(tmp_path / "x.csv", "picture;text", "a.png;a cat")
    with pytest.raises(
        InputError, match=r"x\.csv, line 1: no column of images: its keys are picture, text; rea"
    ):
        read_list(path)
    path = write_list(tmp_path / "x.csv", "file_name,text", "a.png,a cat, and a dog")
    with pytest.raises(InputError, match=r"x\.csv, line 2: .*more cells than the 2 columns; quote a caption"):
        read_list(path)


@pytest.mark.parametrize(
    ("lines", "first_line"),
    [
        (("image,caption", "a.png,a cat", 'b.png,"a cat', "c.png,a bird"), 3),
        (("image,caption", '"a.png" , "a cat"'), 2),
        (("image,caption", 'a.png,"two', 'lines"', 'b.png,"nice" cats'), 4),
        (('image,"caption', "a.png,a cat"), 1),
    ],
)
def test_an_unclosed_quote_is_reported_with_its_row(
    tmp_path: Path, lines: tuple[str, ...], first_line: int
) -> None:
    path = write_list(tmp_path / "x.csv", *lines)
    with pytest.raises(
        InputError, match=rf"x\.csv: the row that begins at line {first_line} cannot be read \("
    ):
        read_list(path)


def test_null_values_are_ignored(tmp_path: Path) -> None:
    """Exports write null for a missing value; it must not become an item of all images."""
    path = write_list(
        tmp_path / "x.jsonl",
        {"image": "a.png", "caption": "a", "id": None, "item": None},
        {"image": "b.png", "caption": "b", "id": "", "item": ""},
        {
            "image": None,
            "file_name": "c.png",
            "captions": None,
            "text": "c",
            "id": math.nan,
            "item": math.nan,
        },
    )
    assert [(sample.id, sample.item) for sample in read_list(path)] == [
        ("a.png",) * 2, ("b.png",) * 2, ("c.png",) * 2,
    ]  # fmt: skip
    assert [sample.captions for sample in read_list(path)] == [("a",), ("b",), ("c",)]


def test_lines_of_one_image_must_give_one_item(tmp_path: Path) -> None:
    path = write_list(tmp_path / "x.csv", "image,caption,item", "a.png,one,pair", "a.png,two,")
    with pytest.raises(InputError, match=r"image 'a\.png' has item 'pair' in one line, 'a\.png' in"):
        read_list(path)


def test_lines_of_one_image_are_merged(tmp_path: Path) -> None:
    path = write_list(
        tmp_path / "x.jsonl",
        *({"image": name, "caption": caption} for caption in ("one", "two") for name in ("a.png", "b.png")),
    )
    assert [(s.id, s.captions) for s in read_list(path)] == [
        ("a.png", ("one", "two")),
        ("b.png", ("one", "two")),
    ]


def test_a_list_is_a_dataset_named_after_its_file(tmp_path: Path) -> None:
    path = write_list(tmp_path / "mine.jsonl", {"image": "a.png", "caption": "a"})
    (spec,) = resolve_datasets([str(path)], {})
    assert spec.name == "mine"
    assert [sample.id for sample in spec.read(tmp_path)] == ["a.png"]


def test_other_files_and_names_in_use_are_refused(tmp_path: Path) -> None:
    known = {spec.name: spec for spec in (*bundled_datasets(), *official_datasets(None, 400, 0))}
    path = write_list(tmp_path / "x.xlsx", "image\tcaption")
    with pytest.raises(InputError, match=r"x\.xlsx: files \.xlsx are not read as datasets; give .*\.csv"):
        resolve_datasets([str(path)], known)
    path = write_list(tmp_path / "photos.jsonl", {"image": "a.png", "caption": "a"})
    with pytest.raises(InputError, match="there is a dataset called 'photos' already"):
        resolve_datasets([str(path)], known)


def test_a_folder_may_have_the_name_of_an_official_dataset(tmp_path: Path) -> None:
    known = {spec.name: spec for spec in official_datasets(None, 400, 0)}
    write_image(tmp_path / "coco" / "a.png")
    (spec,) = resolve_datasets([str(tmp_path / "coco")], known)
    assert [sample.id for sample in spec.read(tmp_path)] == ["a.png"]
    with pytest.raises(InputError, match=r"^coco: two different datasets have this name"):
        resolve_datasets(["coco", str(tmp_path / "coco")], known)
