"""COCO's layout as copies and relatives of it have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phasebench.datasets.layouts import read_file, read_folder
from phasebench.errors import InputError
from tests.support.pictures import write_pictures

Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, change: Change, count: int = 2, split: str = "val") -> Path:
    path = write_pictures(folder, count, split=split) / "annotations" / f"captions_{split}.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return folder


def null_caption(data: dict[str, Any]) -> None:
    data["annotations"][0]["caption"] = None


def no_caption(data: dict[str, Any]) -> None:
    del data["annotations"][0]["caption"]


def other_key(data: dict[str, Any]) -> None:
    first = data["annotations"][0]
    first["raw"] = [first.pop("caption"), None][1:]


@pytest.mark.parametrize("change", [null_caption, no_caption, other_key])
def test_an_empty_caption_is_left_out(tmp_path: Path, change: Change) -> None:
    samples = read_folder(changed(tmp_path, change))
    assert [len(sample.captions) for sample in samples] == [4, 5]


def test_ids_may_be_numbers_or_texts(tmp_path: Path) -> None:
    def texts(data: dict[str, Any]) -> None:
        for row in data["annotations"]:
            row["image_id"] = str(row["image_id"])

    assert [len(sample.captions) for sample in read_folder(changed(tmp_path, texts))] == [5, 5]


@pytest.mark.parametrize("prefix", ["val/", "images/val/", "val\\", "./"])
@pytest.mark.parametrize("place", ["val", "images/val", "images"])
def test_file_names_may_have_folders(tmp_path: Path, prefix: str, place: str) -> None:
    def named(data: dict[str, Any]) -> None:
        for row in data["images"]:
            row["file_name"] = prefix + row["file_name"]

    folder = changed(tmp_path / "set", named)
    (folder / "val").rename(tmp_path / "away")
    (folder / place).parent.mkdir(exist_ok=True)
    (tmp_path / "away").rename(folder / place)
    samples = read_folder(folder)
    assert [(sample.id, sample.path.is_file()) for sample in samples] == [("0", True), ("1", True)]


def test_an_image_with_an_entry_for_each_caption_is_one(tmp_path: Path) -> None:
    def repeated(data: dict[str, Any]) -> None:
        data["images"].append({"id": 7, "file_name": "0.png"})
        data["annotations"].append({"id": 99, "image_id": 7, "caption": "one more"})

    first, _ = read_folder(changed(tmp_path, repeated))
    assert (first.id, len(first.captions), first.captions[-1]) == ("0", 6, "one more")


def test_ids_have_folders_if_two_splits_have_files_of_one_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2, split="train")
    samples = read_folder(write_pictures(tmp_path, 2, split="val", seed=6))
    assert [sample.id for sample in samples] == ["train/0.png", "train/1.png", "val/0.png", "val/1.png"]
    assert all(sample.item == sample.id for sample in samples)


def test_no_image_is_taken_from_another_split(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 1, split="val")
    write_pictures(tmp_path, 1, split="train", seed=6)
    (folder / "val" / "0.png").unlink()
    assert [sample.path.is_file() for sample in read_folder(folder)] == [True, False]


def test_captions_under_an_unknown_key_are_named(tmp_path: Path) -> None:
    def renamed(data: dict[str, Any]) -> None:
        for row in data["annotations"]:
            row["description_of"] = row.pop("caption")

    with pytest.raises(
        InputError, match=r"captions_val\.json: no row has a caption: its keys are image_id, id, de"
    ):
        read_folder(changed(tmp_path, renamed))


def test_a_file_of_annotations_is_read_alone(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 2)
    file = folder / "annotations" / "captions_val.json"
    assert read_file(file, tmp_path) == read_folder(folder)
    beside = file.rename(folder / "val" / "captions_val.json")
    assert all(sample.path.is_file() for sample in read_file(beside, tmp_path))


@pytest.mark.parametrize("place", ["", "images", "val"])
@pytest.mark.parametrize("below", ["annotations", ""])
def test_nocaps_is_read(tmp_path: Path, place: str, below: str) -> None:
    def nocaps(data: dict[str, Any]) -> None:
        for row in data["images"]:
            row.update(coco_url=f"https://a.org/{row['file_name']}", domain="in-domain")

    folder = changed(tmp_path / "set", nocaps)
    (folder / place).mkdir(exist_ok=True)
    if place != "val":
        for path in (folder / "val").iterdir():
            path.rename(folder / place / path.name)
    file = (folder / "annotations" / "captions_val.json").rename(
        folder / below / "nocaps_val_4500_captions.json"
    )
    assert [(s.path.is_file(), len(s.captions)) for s in read_file(file, tmp_path)] == [(True, 5)] * 2
