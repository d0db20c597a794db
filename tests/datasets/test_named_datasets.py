"""Reading, naming and drawing datasets, and the errors for bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasebench.datasets.coco import read_coco
from phasebench.datasets.layouts import read_folder
from phasebench.datasets.named_datasets import DatasetSpec, bundled_datasets, read, resolve_datasets
from phasebench.datasets.sample import Sample, digest, draw
from phasebench.datasets.selection import select
from phasebench.datasets.winoground import read_winoground
from phasebench.errors import InputError
from tests.support.pictures import write_pictures


def known() -> dict:  # type: ignore[type-arg]
    return {spec.name: spec for spec in bundled_datasets()}


def samples(count: int, per_item: int = 1) -> list[Sample]:
    return [Sample(str(i), Path(f"{i}.png"), ("a cat",), str(i // per_item)) for i in range(count)]


def test_coco_is_read_by_file_name(tmp_path: Path) -> None:
    read = read_coco(write_pictures(tmp_path / "set", 3))
    assert [sample.id for sample in read] == ["0", "1", "2"]
    assert all(sample.path.is_file() and len(sample.captions) == 5 for sample in read)


def test_images_without_captions_are_read_and_have_none(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 3)
    path = folder / "annotations" / "captions_val.json"
    data = json.loads(path.read_text())
    data["annotations"] = [row for row in data["annotations"] if row["image_id"] != 1]
    path.write_text(json.dumps(data))
    assert [len(sample.captions) for sample in read_coco(folder)] == [5, 0, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "captions_val.json is not JSON"),
        ("{}", "not in the COCO captions layout"),
        ("[1]", "COCO captions layout"),
    ],
)
def test_a_broken_caption_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = write_pictures(tmp_path / "set", 1)
    (folder / "annotations" / "captions_val.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_coco(folder)


def test_splits_without_images_are_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 2)
    (folder / "annotations" / "captions_train.json").write_text("never read")
    assert len(read_coco(folder)) == 2


def test_images_may_lie_in_a_folder_of_images(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 2)
    (folder / "images").mkdir()
    (folder / "val").rename(folder / "images" / "val")
    assert all(sample.path.is_file() for sample in read_folder(folder))


def test_captions_without_any_images_are_an_error(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 1)
    (folder / "val").rename(folder / "other")
    with pytest.raises(InputError, match=r"no folder of images: .*val"):
        read_folder(folder)


def test_doubled_ids_are_an_error(tmp_path: Path) -> None:
    read = read_folder(winoground(tmp_path / "w", [json.dumps(ITEM)] * 2))
    with pytest.raises(InputError, match=r"two images are called '0_0'"):
        select(read, 400, seed=0)


def test_a_coco_folder_without_captions_is_an_error(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", 1)
    (folder / "annotations" / "captions_val.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="no captioned images"):
        read_folder(folder)


def winoground(folder: Path, lines: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in ("ex_0_img_0.png", "ex_0_img_1.png"):
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
    (folder / "examples.jsonl").write_text("\n".join(lines))
    return folder


ITEM = {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1.png", "caption_0": "a b", "caption_1": "b a"}


def test_winoground_gives_two_images_an_item(tmp_path: Path) -> None:
    read = read_folder(winoground(tmp_path / "w", [json.dumps(ITEM)]))
    assert [(sample.id, sample.item, sample.captions) for sample in read] == [
        ("0_0", "0", ("a b",)),
        ("0_1", "0", ("b a",)),
    ]
    assert all(sample.path.is_file() for sample in read)


def test_the_data_folder_of_the_official_repository_is_read(tmp_path: Path) -> None:
    winoground(tmp_path / "w" / "data", [json.dumps(ITEM)])
    assert [sample.path.name for sample in read_folder(tmp_path / "w")] == [
        "ex_0_img_0.png",
        "ex_0_img_1.png",
    ]


def test_packed_images_must_be_unpacked(tmp_path: Path) -> None:
    folder = winoground(tmp_path / "w", [json.dumps(ITEM)])
    (folder / "images").rename(folder / "elsewhere")
    (folder / "images.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"images\.zip is packed; unpack"):
        read_folder(folder)


@pytest.mark.parametrize("line", ["{", '{"id": 3}', "[]"])
def test_a_broken_winoground_line_is_named(tmp_path: Path, line: str) -> None:
    folder = winoground(tmp_path / "w", [json.dumps(ITEM), line])
    with pytest.raises(InputError, match=r"examples\.jsonl, line 2"):
        read_winoground(folder)


@pytest.mark.parametrize(
    ("changes", "captions"),
    [({"caption_0": None}, ["b a"]), ({"caption_0": ["a"]}, None), ({"id": None}, None)],
)
def test_captions_of_winoground_are_texts(tmp_path: Path, changes: dict[str, Any], captions: Any) -> None:
    folder = winoground(tmp_path / "w", [json.dumps({**ITEM, **changes})])
    if captions is None:
        with pytest.raises(InputError, match=r"line 1: .*'id' should be a name, and a caption a text"):
            read_winoground(folder)
    else:
        assert [text for sample in read_winoground(folder) for text in sample.captions] == captions


def test_an_empty_winoground_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no items"):
        read_winoground(winoground(tmp_path / "w", []))


def test_a_folder_in_neither_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r" has neither examples\.jsonl"):
        read_folder(tmp_path)


def test_images_in_subfolders_are_pointed_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics", 1)
    (tmp_path / "pics" / "annotations" / "captions_val.json").unlink()
    with pytest.raises(InputError, match=r"its annotations have no captions_\*\.json"):
        read_folder(str(tmp_path / "pics"))
    (tmp_path / "pics" / "annotations").rmdir()
    with pytest.raises(InputError, match=r"its images are in subfolders; .*val\)"):
        read_folder(str(tmp_path / "pics"))


def test_a_sample_accepts_text_for_path_and_captions() -> None:
    """One text is one caption, not a sequence of letters."""
    sample = Sample("a", "pics/a.png", "a red dog", "a")  # type: ignore[arg-type]
    assert (sample.path, sample.captions) == (Path("pics/a.png"), ("a red dog",))
    assert Sample("a", Path("a"), ["one", "two"], "a").captions == ("one", "two")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _: None, "cannot be read: TypeError"),
        (lambda _: [3], "its function should return samples, not int"),
        (lambda _: 1 / 0, "cannot be read: ZeroDivisionError"),
    ],
)
def test_a_users_function_must_return_samples(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(DatasetSpec("ours", function), tmp_path)


def test_a_users_function_may_return_an_iterator(tmp_path: Path) -> None:
    samples = [Sample("a", Path("a"), ("x",), "a")]
    assert read(DatasetSpec("ours", lambda _: iter(samples)), tmp_path) == samples  # type: ignore[arg-type, return-value]


def test_an_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"unknown dataset; did you mean scenes\?; known: scenes, scene-pairs, photos"
    ):
        resolve_datasets(["scene"], known())


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match="/no/such: no such folder"):
        resolve_datasets(["/no/such"], known())


def test_doubled_names_count_once_and_keep_their_order() -> None:
    assert [spec.name for spec in resolve_datasets(["photos", "scenes", "photos"], known())] == [
        "photos",
        "scenes",
    ]


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [str(write_pictures(tmp_path / side / "pics", 1)) for side in "ab"]
    with pytest.raises(InputError, match=r"^pics: two different datasets have this name"):
        resolve_datasets(folders, known())


def test_one_folder_spelled_in_two_ways_counts_once(tmp_path: Path) -> None:
    pics = write_pictures(tmp_path / "pics", 1)
    assert len(resolve_datasets([str(pics), f"{pics.parent}/./pics"], known())) == 1


def test_a_name_outside_the_baselines_folder_is_refused(tmp_path: Path) -> None:
    """Baselines lie in a folder with the dataset's name."""
    spec = DatasetSpec("../outside", lambda _: [])
    with pytest.raises(InputError, match=r"'\.\./outside' cannot be the name of a baselines' folder"):
        resolve_datasets(["../outside"], {"../outside": spec})


def test_a_folder_is_a_dataset_named_after_it(tmp_path: Path) -> None:
    (spec,) = resolve_datasets([str(write_pictures(tmp_path / "mine", 2))], known())
    assert spec.name == "mine"
    assert len(spec.read(tmp_path)) == 2


def test_draw_takes_whole_items_with_the_seed() -> None:
    drawn = draw(samples(40, per_item=2), 11, seed=3)
    assert len(drawn) == 10
    assert all([s.item for s in drawn].count(s.item) == 2 for s in drawn)
    assert drawn == draw(samples(40, per_item=2), 11, seed=3)
    assert drawn != draw(samples(40, per_item=2), 11, seed=4)


def test_draw_keeps_the_order_and_takes_all_if_there_are_few() -> None:
    drawn = draw(samples(40), 15, seed=0)
    assert [int(s.id) for s in drawn] == sorted(int(s.id) for s in drawn)
    assert draw(samples(5), 400, seed=0) == samples(5)


def test_the_digest_follows_content_and_captions(tmp_path: Path) -> None:
    read = read_coco(write_pictures(tmp_path / "set", 2))
    before = [sample.digest() for sample in read]
    assert [sample.digest() for sample in read] == before
    assert len({digest(before), digest(before[:1]), digest(reversed(before))}) == 3
    recaptioned = replace(read[0], captions=("a cat",))
    (image, captions), (same_image, other_captions) = (
        sample.digest().split("-") for sample in (read[0], recaptioned)
    )
    assert image == same_image
    assert captions != other_captions
    Image.new("RGB", (96, 96)).save(read[1].path)
    assert [sample.digest() == old for sample, old in zip(read, before, strict=True)] == [True, False]


def test_an_image_with_the_same_pixels_has_the_same_digest(tmp_path: Path) -> None:
    """Neither a machine's zlib nor metadata decide the digest."""
    (sample, _) = read_coco(write_pictures(tmp_path / "set", 2))
    before, content = sample.digest(), sample.path.read_bytes()
    sample.open().save(sample.path, compress_level=1)
    assert sample.path.read_bytes() != content
    assert sample.digest() == before
    exif = Image.Exif()
    exif[0x010E] = "a description"
    sample.open().save(sample.path, exif=exif)
    assert sample.digest() == before
    sample.path.write_bytes(content[:-30])
    with pytest.raises(InputError, match="truncated"):
        sample.digest()


def test_the_digest_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.*y\.png"):
        Sample("y", tmp_path / "y.png", ("a",), "y").digest()


def test_a_dataset_may_be_given_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folders = [write_pictures(tmp_path / side / "pics", 1) for side in "ab"]
    path = tmp_path / "x.jsonl"
    path.write_text('{"image": "a/pics/val/0.png", "caption": "a cat"}')
    arguments = [f"one={folders[0]}", "two=~/b/pics", f"list={path}", f"scenes={folders[0]}", "same=photos"]
    specs = resolve_datasets(arguments, known())
    assert [spec.name for spec in specs] == ["one", "two", "list", "scenes", "same"]
    assert [len(spec.read(tmp_path)) for spec in specs] == [1, 1, 1, 1, 24]
    assert len(resolve_datasets([f"one={folders[0]}", f"one={folders[0]}/"], known())) == 1
    folder = write_pictures(tmp_path / "a=b", 1)
    assert resolve_datasets([str(folder)], known())[0].name == "a=b"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("=pics", "=pics: there is nothing before ="),
        ("mine=", "mine=: there is nothing after ="),
        ("mine=gone/pics", "mine=gone/pics: no such folder or file"),
        ("mine=scene", r"mine=scene: unknown dataset; did you mean scenes\?"),
        ("..=scenes", r"'\.\.' cannot be the name"),
        ("a/b=scenes", "'a/b' cannot be the name"),
        ("~nobody/pics", "~nobody/pics: no such folder or file"),
    ],
)
def test_a_name_without_a_dataset_is_refused(argument: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_datasets([argument], known())


def test_a_folder_with_a_taken_name_needs_another(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "scenes", 1)
    with pytest.raises(InputError, match=r"a dataset called 'scenes' already; .*give scenes=.*, else NAME="):
        resolve_datasets([str(folder)], known())
    with pytest.raises(InputError, match=r"^scenes: two different datasets have this name; give NAME=FOLDER"):
        resolve_datasets(["scenes", f"scenes={folder}"], known())
