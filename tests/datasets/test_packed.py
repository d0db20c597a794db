"""Parquet tables and webdataset's tars: unpacked once, and read like a list."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from phasebench.datasets.layouts import read_file
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


class Table:
    """A stand-in for ``pyarrow.parquet.ParquetFile``: a table that has its rows as JSON."""

    rows: Sequence[Mapping[str, Any]] = ()

    def __init__(self, path: Path) -> None:
        if path.read_bytes() != b"table":
            raise ValueError("Parquet magic bytes not found in footer.")

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_batches(self, batch_size: int) -> list[Table]:
        return [self]

    def to_pylist(self) -> list[Mapping[str, Any]]:
        return list(self.rows)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Parquet file whose rows are those of ``Table``."""
    pyarrow, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    parquet.ParquetFile = Table  # type: ignore[attr-defined]
    pyarrow.parquet = parquet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    (tmp_path / "x.parquet").write_bytes(b"table")
    return tmp_path / "x.parquet"


def read(path: Path) -> list[Sample]:
    return read_file(path, path.parent / "cache")


def test_a_parquet_table_has_images_and_captions(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"image": {"bytes": png(0), "path": "000000000139.jpg"}, "caption": ["a cat", "a pet"], "id": 139},
        {"image": {"bytes": png(1), "path": None}, "caption": ["a dog"]},
        {"image": png(2), "caption": ["a cow"]},
        {"image": None, "caption": ["nothing"]},
    ]
    monkeypatch.setattr(Table, "rows", rows)
    samples = read(table)
    assert [sample.captions for sample in samples] == [
        ("a cat", "a pet"),
        ("a dog",),
        ("a cow",),
        ("nothing",),
    ]
    assert samples[0].id == "139"
    assert samples[0].path.name.startswith("000000000139-")
    assert [sample.path.is_file() for sample in samples] == [True, True, True, False]
    assert samples[1].path.read_bytes() == png(1)


def test_rows_with_the_same_image_are_one_image(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = ("one", "two", "three")
    monkeypatch.setattr(Table, "rows", [{"jpg": png(0), "id": n, "text": c} for n, c in enumerate(captions)])
    assert [(sample.id, sample.captions) for sample in read(table)] == [("0", captions)]


def test_winogrounds_table_is_read(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"caption_0": "a b", "caption_1": "b a", "tag": "Noun"}
    images = [
        {f"image_{side}": {"bytes": png(2 * n + side), "path": None} for side in (0, 1)} for n in (0, 1)
    ]
    monkeypatch.setattr(Table, "rows", [{"id": n, **pair, **sides} for n, pair in enumerate(images)])
    samples = read(table)
    assert [(s.id, s.item, s.captions) for s in samples[:2]] == [
        ("0_0", "0", ("a b",)),
        ("0_1", "0", ("b a",)),
    ]
    assert [sample.path.read_bytes() for sample in samples] == [png(n) for n in range(4)]


def test_a_table_may_name_files(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (table.parent / "images").mkdir()
    (table.parent / "images" / "a.png").write_bytes(png(0))
    rows = [
        {"image": "images/a.png", "text": "a"},
        {"image": {"bytes": None, "path": "images/a.png"}, "text": "b"},
    ]
    monkeypatch.setattr(Table, "rows", rows)
    (sample,) = read(table)
    assert (sample.path.read_bytes(), sample.captions) == (png(0), ("a", "b"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"picture": b"", "caption": "a"}],
            r"row 1: not an image .*: its keys are picture, caption; read are ima",
        ),
        (
            [{"image": b"x", "prompt": "a"}],
            r"no row has a caption: its keys are image, prompt; read are captions",
        ),
        ([{"image": b"x", "caption": 3}], r"row 1: .*'caption' should be a list of texts"),
    ],
)
def test_a_table_of_something_else_is_told_its_columns(
    table: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], message: str
) -> None:
    monkeypatch.setattr(Table, "rows", rows)
    with pytest.raises(InputError, match=rf"x\.parquet.*{message}"):
        read(table)
    assert not list((table.parent / "cache").glob("*"))


def test_a_damaged_table_is_named(table: Path) -> None:
    table.write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"x\.parquet cannot be unpacked: ValueError: Parquet magic bytes"):
        read(table)


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"x\.parquet needs pyarrow: pip install pyarrow$"):
        read(tmp_path / "x.parquet")


def test_a_real_parquet_table_is_read(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "captions": [f"caption {n}"]} for n in range(70)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert [sample.captions for sample in read(tmp_path / "x.parquet")] == [
        (f"caption {n}",) for n in range(70)
    ]


def write_tar(path: Path, members: Mapping[str, Any], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_webdataset_is_read(tmp_path: Path) -> None:
    members = {
        "./000.jpg": png(0), "./000.txt": "a cat\na pet\n", "./000.json": json.dumps({"caption": "unused"}),
        "sub/001.json": json.dumps({"caption": "a dog", "url": "https://a.org", "file": "b.jpg"}),
        "sub/001.png": png(1), "sub/001.cls": "3", "002.png": png(2), "._002.txt": b"\xff\xff",
        "003.txt": "no picture",
    }  # fmt: skip
    samples = read(write_tar(tmp_path / "00000.tar", members))
    assert [(sample.id, sample.captions) for sample in samples] == [
        ("000", ("a cat", "a pet")),
        ("sub/001", ("a dog",)),
        ("002", ()),
    ]
    assert [sample.path.read_bytes() for sample in samples] == [png(n) for n in range(3)]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_tar_may_be_compressed_and_its_members_in_any_order(tmp_path: Path, mode: str) -> None:
    members = {"a.jpg": png(0), "b.jpg": png(1), "a.caption": "a", "b.caption": "b"}
    samples = read(write_tar(tmp_path / "x.tar", members, mode))
    assert [(sample.id, sample.captions) for sample in samples] == [("a", ("a",)), ("b", ("b",))]


def test_equal_pictures_of_a_tar_are_one_image(tmp_path: Path) -> None:
    members = {"a.jpg": png(0), "b.jpg": png(0), "a.txt": "a", "b.txt": "b"}
    (sample,) = read(write_tar(tmp_path / "x.tar", members))
    assert (sample.id, sample.captions) == ("a", ("a", "b"))


def test_a_member_writes_nothing_outside_the_cache(tmp_path: Path) -> None:
    names = ("../../a", "/b", "c")
    members = {
        f"{name}{ending}": png(0) if ending == ".jpg" else "x"
        for name in names
        for ending in (".jpg", ".txt")
    }
    samples = read(write_tar(tmp_path / "x.tar", members))
    assert [sample.path.parent.parent for sample in samples] == [tmp_path / "cache"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a.jpg": png(0), "captions.jsonl": "{}"},
            r"none of its 1 pictures has captions .*\.txt.*unpack it",
        ),
        ({"a.txt": "a"}, "none of its 0 pictures has captions"),
        ({"a.jpg": png(0), "a.json": "{"}, "cannot be unpacked: JSONDecodeError"),
        (b"no tar", "cannot be unpacked: ReadError"),
    ],
)
def test_another_tar_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content) if isinstance(content, bytes) else write_tar(path, content)
    with pytest.raises(InputError, match=rf"x\.tar.*{message}"):
        read(path)


def test_a_file_is_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.jpg": png(0), "a.txt": "a"})
    assert read(path) == read(path)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    write_tar(path, {"a.jpg": png(0), "a.txt": "another caption", "b.jpg": png(1), "b.txt": "b" * 20_000})
    assert [len(sample.captions[0]) for sample in read(path)] == [15, 20_000]
