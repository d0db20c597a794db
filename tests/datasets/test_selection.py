"""Drawing and skipping images, and when a skip is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from phasebench.datasets.sample import Sample, draw
from phasebench.datasets.selection import select
from phasebench.errors import InputError


def make_samples(folder: Path, count: int, per_item: int = 1) -> list[Sample]:
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (4, 4), (index, 0, 0)).save(path)
        samples.append(Sample(str(index), path, ("a cat",), str(index // per_item)))
    return samples


def without_caption(sample: Sample) -> Sample:
    return Sample(sample.id, sample.path, (" ",), sample.item)


def test_good_data_is_drawn_and_nothing_skipped(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 8)
    selection = select(samples, 5, seed=2, strict=True)
    assert selection.samples == tuple(draw(samples, 5, seed=2))
    assert selection.skipped == ()


def test_only_images_with_captions_are_drawn(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 8)
    samples[:4] = map(without_caption, samples[:4])
    selection = select(samples, 4, seed=0)
    assert [sample.id for sample in selection.samples] == ["4", "5", "6", "7"]
    assert [skip.id for skip in selection.skipped] == ["0", "1", "2", "3"]
    assert {skip.reason for skip in selection.skipped} == {"without captions"}


def test_an_unreadable_image_is_not_replaced(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 8)
    first, *others = draw(samples, 4, seed=0)
    first.path.unlink()
    selection = select(samples, 4, seed=0)
    assert selection.samples == tuple(others)
    assert [skip.as_dict() for skip in selection.skipped] == [
        {"id": first.id, "path": str(first.path), "reason": "missing"}
    ]


def test_an_item_is_skipped_whole(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 6, per_item=2)
    samples[3].path.write_bytes(b"")
    selection = select(samples, 6, seed=0)
    assert [sample.id for sample in selection.samples] == ["0", "1", "4", "5"]
    assert [(skip.id, skip.reason) for skip in selection.skipped] == [
        ("3", "no image"),
        ("2", "of an item with a skipped image"),
    ]


def test_an_item_with_one_caption_is_skipped_whole(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 4, per_item=2)
    samples[1] = without_caption(samples[1])
    selection = select(samples, 4, seed=0)
    assert [sample.id for sample in selection.samples] == ["2", "3"]
    assert [skip.id for skip in selection.skipped] == ["1", "0"]


def test_strict_names_the_first_skip(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 4)
    samples[2].path.unlink()
    with pytest.raises(InputError, match=r"^1 image skipped; the first: .* missing: .*2\.png$") as caught:
        select(samples, 4, seed=0, strict=True)
    assert caught.value.remedy == "strict_data"


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 2)
    with pytest.raises(InputError, match=r"no image is left.*2 images skipped; the first: no captions"):
        select([without_caption(sample) for sample in samples], 4, seed=0)
    damaged, second, third = make_samples(tmp_path, 3)
    damaged.path.write_bytes(b"no picture")
    third.path.write_bytes(b"none either")
    message = r"no image is left.* 3 images skipped \(2 [a-z ]+, 1 without captions\); the first: no captions"
    with pytest.raises(InputError, match=message):
        select([damaged, without_caption(second), third], 4, seed=0)
    with pytest.raises(InputError, match=r"^no images drawn: an item has more than 1$"):
        select(make_samples(tmp_path, 2, per_item=2), 1, seed=0)
    with pytest.raises(InputError, match="no images"):
        select([], 4, seed=0)


def test_captions_with_half_a_character_are_skipped(tmp_path: Path) -> None:
    """Half an emoji, as is left where captions are cut by UTF-16 units; JSON may contain it."""
    samples = make_samples(tmp_path, 3)
    selection = select([replace(samples[0], captions=("a dog\ud83d",)), *samples[1:]], 4, seed=0)
    assert [(skip.id, skip.reason) for skip in selection.skipped] == [
        ("0", "with captions that are not valid Unicode")
    ]


def test_a_name_that_no_file_system_has_is_a_missing_image(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 2)
    selection = select([replace(samples[0], path=tmp_path / "a\0b.png"), samples[1]], 4, seed=0)
    assert [skip.id for skip in selection.skipped] == ["0"]
    assert "null byte" in selection.skipped[0].message


def test_doubled_ids_are_an_error(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 2)
    other = replace(samples[1], path=tmp_path / "elsewhere" / "1.png")
    message = r"two images are called '1': .*/1\.png and .*/elsewhere/1\.png; ids must differ"
    with pytest.raises(InputError, match=message):
        select([*samples, other], 4, seed=0)
