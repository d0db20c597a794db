"""Folders and files that are nearly in a known layout: what is read, and what the message names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from phasebench.datasets.layouts import read_file, read_folder
from phasebench.datasets.selection import select
from phasebench.errors import InputError


def save(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path, "PNG")


APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xff"


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "0.png", tmp_path / ".hidden.png")
    (tmp_path / "0.txt").write_text("a cat")
    for name in ("._0.png", "._0.txt", "._captions.jsonl", ".DS_Store"):
        (tmp_path / name).write_bytes(APPLE_DOUBLE)
    assert [(sample.id, sample.captions) for sample in read_folder(tmp_path)] == [("0.png", ("a cat",))]


def test_hidden_annotations_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "val" / "0.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "._captions_val.json").write_bytes(APPLE_DOUBLE)
    images, annotations = [{"id": 0, "file_name": "0.png"}], [{"image_id": 0, "caption": "a cat"}]
    path = tmp_path / "annotations" / "captions_val.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert [sample.captions for sample in read_folder(tmp_path)] == [("a cat",)]


def test_folders_of_archivers_are_not_pointed_out(tmp_path: Path) -> None:
    save(tmp_path / "__MACOSX" / "0.png", tmp_path / ".cache" / "0.png", tmp_path / "pics" / "0.png")
    with pytest.raises(InputError, match=r"subfolders; give one of them \(.*/pics\)"):
        read_folder(tmp_path)


@pytest.mark.parametrize("ending", [".HEIC", ".jxl", ".cr2"])
def test_a_picture_that_pillow_does_not_open_is_counted(tmp_path: Path, ending: str) -> None:
    save(tmp_path / "0.png")
    for name in ("0.txt", "1.txt"):
        (tmp_path / name).write_text("a cat")
    (tmp_path / f"1{ending}").write_bytes(b"something else")
    (skip,) = select(read_folder(tmp_path), 4, seed=0).skipped
    assert (skip.id, skip.reason) == (f"1{ending}", f"{ending.lower()} is not read")
    assert "convert it to PNG or JPEG" in skip.message


def test_a_picture_is_read_by_its_content_not_by_its_ending(tmp_path: Path) -> None:
    save(tmp_path / "0.heic")
    (tmp_path / "0.txt").write_text("a cat")
    assert select(read_folder(tmp_path), 4, seed=0).skipped == ()


LIST = {
    "captions.txt": "image,caption\n0.png,a cat\n",
    "results.token": "0.png#0\ta cat\n",
    "metadata1000.jsonl": '{"file_name": "0.png", "text": "a cat"}\n',
    "train.json": '[{"image": "0.png", "caption": "a cat"}]',
    "captions.json": '{"0.png": "a cat"}',
    "0001.parquet": "",
    "0001.tar": "",
}


@pytest.mark.parametrize("name", LIST)
@pytest.mark.parametrize("image", ["0.png", "Images/0.png"])
def test_a_list_of_another_name_is_named(tmp_path: Path, name: str, image: str) -> None:
    save(tmp_path / image)
    (tmp_path / name).write_text(LIST[name])
    (tmp_path / "README.txt").write_text("These images are ours, and free.")
    with pytest.raises(InputError, match=rf"has no captions; they may be in .*/{name}: give that file$"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match=rf"has no captions; they may be in .*/{name}: give that file$"):
        read_folder((tmp_path / image).parent)


@pytest.mark.parametrize("name", [name for name, content in LIST.items() if content])
def test_that_list_is_read(tmp_path: Path, name: str) -> None:
    save(tmp_path / "Images" / "0.png")
    (tmp_path / name).write_text(LIST[name])
    (sample,) = read_file(tmp_path / name, tmp_path)
    assert (sample.path, sample.captions) == (tmp_path / "Images" / "0.png", ("a cat",))


def test_captions_beside_images_are_preferred_to_another_list(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    (tmp_path / "captions.txt").write_text(LIST["captions.txt"])
    (tmp_path / "0.txt").write_text("a dog")
    assert [sample.captions for sample in read_folder(tmp_path)] == [("a dog",)]


def test_annotations_of_another_name_are_named(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "nocaps.json").write_text('{"images": [{"file_name": "a.png"}]}')
    with pytest.raises(
        InputError, match=r"no captions_\*\.json.*; if .*nocaps\.json has them, give that file"
    ):
        read_folder(tmp_path)
