"""Copies of a picture are one picture with all captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from phasebench.datasets.image_list import read_list
from phasebench.datasets.merging import merge_same_pictures
from phasebench.datasets.sample import Sample
from phasebench.datasets.selection import Selection, select
from phasebench.errors import InputError

RED, BLUE, GREEN = "red", "blue", "green"


def save(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def selected(folder: Path, colours: Sequence[str], items: Sequence[str]) -> Selection:
    samples = [
        Sample(str(number), save(folder / f"{number}.png", colour), (f"caption {number}",), item)
        for number, (colour, item) in enumerate(zip(colours, items, strict=True))
    ]
    return select(samples, 400, seed=0)


def test_a_copy_is_skipped_and_its_captions_are_kept(tmp_path: Path) -> None:
    selection = selected(tmp_path, [RED, BLUE, RED, RED], "0123")
    assert [(sample.id, sample.captions) for sample in selection.samples] == [
        ("0", ("caption 0", "caption 2", "caption 3")),
        ("1", ("caption 1",)),
    ]
    assert [(skip.id, skip.reason) for skip in selection.skipped] == [
        ("2", "the same picture as another"),
        ("3", "the same picture as another"),
    ]
    assert selection.skipped[0].message == f"{tmp_path / '2.png'}: the same picture as {tmp_path / '0.png'}"


@pytest.mark.parametrize("ending", ["bmp", "tif", "webp", "gif"])
def test_a_copy_in_another_format_is_measured_but_not_independent(tmp_path: Path, ending: str) -> None:
    first = save(tmp_path / "a.png", RED)
    options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    Image.open(first).save(tmp_path / f"b.{ending}", **options)
    samples = [Sample(path.name, path, ("x",), path.name) for path in (first, tmp_path / f"b.{ending}")]
    assert [sample.item for sample in select(samples, 4, seed=0).samples] == ["a.png", "a.png"]
    ImageOps.expand(Image.open(first), 1).save(tmp_path / f"b.{ending}", **options)
    assert [sample.item for sample in select(samples, 4, seed=0).samples] == ["a.png", f"b.{ending}"]


def test_with_strict_data_a_copy_ends_the_run(tmp_path: Path) -> None:
    samples = [Sample(name, save(tmp_path / name, RED), ("x",), name) for name in ("a.png", "b.png")]
    with pytest.raises(
        InputError, match=r"^1 image skipped; the first: .*b\.png: the same picture as .*a\.png"
    ):
        select(samples, 4, seed=0, strict=True)


def test_pairs_that_share_a_picture_are_one_item(tmp_path: Path) -> None:
    selection = selected(tmp_path, [RED, "black", BLUE, RED, BLUE, "grey", GREEN, "white"], "aabbccdd")
    assert [sample.item for sample in selection.samples] == ["a"] * 6 + ["d"] * 2
    assert [len(sample.captions) for sample in selection.samples] == [1] * 8
    assert selection.skipped == ()


def test_a_pair_of_one_picture_and_a_single_image_of_a_pair_stay(tmp_path: Path) -> None:
    selection = selected(tmp_path, [RED, RED, BLUE, BLUE, GREEN], "aabcc")
    assert [sample.item for sample in selection.samples] == ["a", "a", "b", "b", "b"]


def test_items_are_joined_through_others() -> None:
    samples = [Sample(str(n), Path(), ("x",), item) for n, item in enumerate("aabbcc")]
    contents = dict(zip("012345", "pqrsqs", strict=True))
    joined, copies = merge_same_pictures(samples, contents, contents)
    assert {sample.item for sample in joined} == {"a"}
    assert copies == {}


def test_captions_of_a_user_defined_sample_are_kept(tmp_path: Path) -> None:
    sample = Sample("a", save(tmp_path / "a.png", RED), ("x",), "a")
    (merged,) = select([sample, replace(sample, id="b", item="b", captions=("y",))], 4, seed=0).samples
    assert merged.captions == ("x", "y")


LINE = '{{"id": {}, "image": "{}", "caption": "caption {}"}}'


@pytest.mark.parametrize("name", ["a.png", "./a.png", "sub/../a.png", "link.png", "linked/a.png", "A.PNG"])
def test_lines_of_one_file_are_one_image_whatever_their_ids(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a.png", RED)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([LINE.format(5, "a.png", 0), LINE.format(6, name, 1)]))
    (sample,) = read_list(path)
    assert (sample.id, sample.item, sample.captions) == ("5", "5", ("caption 0", "caption 1"))


def test_a_picture_in_two_items_of_a_list_joins_them(tmp_path: Path) -> None:
    lines = ["id,item,image,caption", "0,p,a.png,x", "1,p,b.png,y", "2,q,a.png,z", "3,q,c.png,w"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    for name, colour in (("a", RED), ("b", BLUE), ("c", GREEN)):
        save(tmp_path / f"{name}.png", colour)
    selection = select(read_list(tmp_path / "x.csv"), 400, seed=0)
    assert [(sample.id, sample.item) for sample in selection.samples] == [(n, "p") for n in "0123"]
