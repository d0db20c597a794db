"""What is drawn, what is skipped and why, and when a skip is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from phasebench.datasets.sample import Sample, draw
from phasebench.datasets.selection import select
from phasebench.errors import InputError


def make(folder: Path, count: int, per_item: int = 1) -> list[Sample]:
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (4, 4)).save(path)
        samples.append(Sample(str(index), path, ("a cat",), str(index // per_item)))
    return samples


def silent(sample: Sample) -> Sample:
    return Sample(sample.id, sample.path, (" ",), sample.item)


def test_good_data_is_drawn_and_nothing_skipped(tmp_path: Path) -> None:
    samples = make(tmp_path, 8)
    found = select(samples, 5, seed=2, strict=True)
    assert found.samples == tuple(draw(samples, 5, seed=2))
    assert found.skipped == ()


def test_the_draw_is_among_the_captioned(tmp_path: Path) -> None:
    samples = make(tmp_path, 8)
    samples[:4] = map(silent, samples[:4])
    found = select(samples, 4, seed=0)
    assert [sample.id for sample in found.samples] == ["4", "5", "6", "7"]
    assert [skip.id for skip in found.skipped] == ["0", "1", "2", "3"]
    assert {skip.reason for skip in found.skipped} == {"without captions"}


def test_nothing_takes_an_unreadable_images_place(tmp_path: Path) -> None:
    samples = make(tmp_path, 8)
    first, *others = draw(samples, 4, seed=0)
    first.path.unlink()
    found = select(samples, 4, seed=0)
    assert found.samples == tuple(others)
    assert [skip.as_dict() for skip in found.skipped] == [
        {"id": first.id, "path": str(first.path), "reason": "missing"}
    ]


def test_an_item_is_skipped_whole(tmp_path: Path) -> None:
    samples = make(tmp_path, 6, per_item=2)
    samples[3].path.write_bytes(b"")
    found = select(samples, 6, seed=0)
    assert [sample.id for sample in found.samples] == ["0", "1", "4", "5"]
    assert [(skip.id, skip.reason) for skip in found.skipped] == [
        ("3", "no image"),
        ("2", "of an item with a skipped image"),
    ]


def test_an_item_with_one_caption_is_skipped_whole(tmp_path: Path) -> None:
    samples = make(tmp_path, 4, per_item=2)
    samples[1] = silent(samples[1])
    found = select(samples, 4, seed=0)
    assert [sample.id for sample in found.samples] == ["2", "3"]
    assert [skip.id for skip in found.skipped] == ["1", "0"]


def test_strict_names_the_first_skip(tmp_path: Path) -> None:
    samples = make(tmp_path, 4)
    samples[2].path.unlink()
    with pytest.raises(InputError, match=r"1 image skipped; the first: .* missing: .*2\.png \(--strict-data"):
        select(samples, 4, seed=0, strict=True)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    samples = make(tmp_path, 2)
    with pytest.raises(InputError, match=r"no image is left.*2 images skipped; the first: no captions"):
        select([silent(sample) for sample in samples], 4, seed=0)
    damaged, mute, also = make(tmp_path, 3)
    damaged.path.write_bytes(b"no picture")
    also.path.write_bytes(b"none either")
    told = r"no image is left.* 3 images skipped \(2 [a-z ]+, 1 without captions\); the first: no captions"
    with pytest.raises(InputError, match=told):
        select([damaged, silent(mute), also], 4, seed=0)
    with pytest.raises(InputError, match="no images drawn: an item has more than 1; raise --images"):
        select(make(tmp_path, 2, per_item=2), 1, seed=0)
    with pytest.raises(InputError, match="no images"):
        select([], 4, seed=0)


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    """What is left of an emoji where captions are cut by a count of UTF-16's units; JSON may hold it."""
    samples = make(tmp_path, 3)
    found = select([replace(samples[0], captions=("a dog\ud83d",)), *samples[1:]], 4, seed=0)
    assert [(skip.id, skip.reason) for skip in found.skipped] == [
        ("0", "with captions that are not valid Unicode")
    ]


def test_a_name_that_no_file_system_has_is_a_missing_image(tmp_path: Path) -> None:
    samples = make(tmp_path, 2)
    found = select([replace(samples[0], path=tmp_path / "a\0b.png"), samples[1]], 4, seed=0)
    assert [skip.id for skip in found.skipped] == ["0"]
    assert "null byte" in found.skipped[0].message


def test_doubled_ids_are_an_error(tmp_path: Path) -> None:
    one = make(tmp_path, 2)
    other = replace(one[1], path=tmp_path / "elsewhere" / "1.png")
    told = r"two images are called '1': .*/1\.png and .*/elsewhere/1\.png; ids must differ"
    with pytest.raises(InputError, match=told):
        select([*one, other], 4, seed=0)
