"""``coco`` and ``winoground``: from a local copy, and from the hub with a stand-in for its library."""

from __future__ import annotations

import errno
import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from phasebench.datasets import hub_datasets as hub
from phasebench.datasets.layouts import read_folder
from phasebench.datasets.named_datasets import official_datasets
from phasebench.datasets.sample import Sample
from phasebench.datasets.selection import select
from phasebench.errors import InputError
from tests.support.pictures import write_pictures


def read(name: str, data_dir: Path | None, cache: Path, images: int = 400, seed: int = 0) -> list[Sample]:
    specs = {spec.name: spec for spec in official_datasets(data_dir, images, seed)}
    return specs[name].read(cache)


@pytest.mark.parametrize("below", ["", "coco"])
def test_coco_is_found_at_the_data_dir_or_in_it(tmp_path: Path, below: str) -> None:
    write_pictures(tmp_path / below, 3, split="val2014")
    assert len(read("coco", tmp_path, tmp_path)) == 3


def test_a_validation_split_of_coco_is_read(tmp_path: Path) -> None:
    for split, count in (("train2017", 4), ("val2014", 3), ("val2017", 2)):
        write_pictures(tmp_path, count, split=split)
    assert {sample.path.parent.name for sample in read("coco", tmp_path, tmp_path)} == {"val2017"}
    (tmp_path / "val2017").rename(tmp_path / "away")
    assert {sample.path.parent.name for sample in read("coco", tmp_path, tmp_path)} == {"val2014"}
    (tmp_path / "val2014").rename(tmp_path / "away too")
    with pytest.raises(InputError, match=r"no folder of images: .*val2017"):
        read("coco", tmp_path, tmp_path)


def test_a_data_dir_without_the_dataset_names_the_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^neither .*/coco nor .* has annotations/") as caught:
        read("coco", tmp_path, tmp_path)
    assert caught.value.remedy == "data_dir"
    with pytest.raises(InputError, match=r"neither .*/winoground nor .* has examples\.jsonl"):
        read("winoground", tmp_path, tmp_path)


def png(value: int) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (8, 4), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


COCO_ROWS = [
    {"question_id": f"{7919 * i % 1000:012d}.jpg", "image": png(i), "answer": [f"one {i}", f"two {i}"]}
    for i in range(20)
]
ITEMS: list[dict[str, Any]] = [
    {
        "id": i, "image_0": png(2 * i), "image_1": png(2 * i + 1), "tag": "Noun",
        "caption_0": f"a {i} b", "caption_1": f"b {i} a",
    }
    for i in range(10)
]  # fmt: skip


class Rows:
    """A stand-in for ``datasets.Dataset``: columns by name, rows by number, cast images as bytes."""

    def __init__(self, rows: Sequence[dict[str, Any]], cast: frozenset[str] = frozenset()) -> None:
        self.rows, self.cast = rows, cast

    def cast_column(self, name: str, feature: Any) -> Rows:
        assert feature == "Image(decode=False)"
        return Rows(self.rows, self.cast | {name})

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            assert not key.startswith("image"), "a column of images would all be read"
            return [row[key] for row in self.rows]
        return {k: {"bytes": v, "path": None} if k in self.cast else v for k, v in self.rows[key].items()}


Hub = Callable[[Callable[..., Any]], None]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A function that replaces the library ``datasets`` by a stand-in with this ``load_dataset``."""

    def install(load_dataset: Callable[..., Any]) -> None:
        module = ModuleType("datasets")
        module.load_dataset = load_dataset  # type: ignore[attr-defined]
        module.Image = lambda decode: f"Image(decode={decode})"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


def test_coco_from_the_hub_equals_a_local_copy(library: Hub, tmp_path: Path) -> None:
    calls = []

    def load(*args: Any, **options: Any) -> Rows:
        calls.append((args, options))
        return Rows(COCO_ROWS)

    library(load)
    samples = read("coco", None, tmp_path, images=6, seed=1)
    assert calls == [((hub.COCO,), {"split": "val", "revision": hub.COCO_REVISION})]
    whole = read_folder(hub.coco_folder(tmp_path, 400, 1))
    assert len(whole) == 20
    drawn = select(whole, 6, seed=1).samples
    assert [(s.id, s.captions) for s in samples] == [(s.id, s.captions) for s in drawn]
    by_name = {row["question_id"]: row for row in COCO_ROWS}
    for sample in samples:
        row = by_name[sample.path.name]
        assert (sample.path.read_bytes(), list(sample.captions)) == (row["image"], row["answer"])
    assert len(list((tmp_path / f"coco-{hub.COCO_REVISION[:8]}-6-1").rglob("*.jpg"))) == 6


def test_the_drawn_images_are_fetched_once(library: Hub, tmp_path: Path) -> None:
    library(lambda *args, **options: Rows(COCO_ROWS))
    samples = read("coco", None, tmp_path, images=6)
    library(pytest.fail)
    assert read("coco", None, tmp_path, images=6) == samples


def test_winoground_from_the_hub_has_both_sides_of_an_item(library: Hub, tmp_path: Path) -> None:
    library(lambda *args, **options: Rows(ITEMS))
    samples = read("winoground", None, tmp_path, images=7, seed=1)
    assert [sample.id[-2:] for sample in samples] == ["_0", "_1"] * 3
    for sample in samples:
        item, side = ITEMS[int(sample.item)], sample.id[-1]
        assert sample.captions == (item[f"caption_{side}"],)
        assert sample.path.read_bytes() == item[f"image_{side}"]
    whole = read_folder(hub.winoground_folder(tmp_path, 400, 1))
    assert [s.id for s in select(whole, 7, seed=1).samples] == [s.id for s in samples]


def test_half_an_item_from_the_hub_is_an_error(library: Hub, tmp_path: Path) -> None:
    library(lambda *args, **options: Rows(ITEMS))
    with pytest.raises(InputError, match=r"^no images drawn: an item has more than 1$"):
        read("winoground", None, tmp_path, images=1, seed=1)
    assert not list(tmp_path.rglob("examples.jsonl"))


def test_winoground_from_a_repository_with_a_script(
    library: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{**item, "image_0": f"ex_{i}_img_0", "image_1": f"ex_{i}_img_1"} for i, item in enumerate(ITEMS)]
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, items)))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for item, names in zip(ITEMS, items, strict=True):
            for side in ("image_0", "image_1"):
                archive.writestr(f"images/{names[side]}.png", item[side])

    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found winoground.py")

    library(refuse)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda repo, name, repo_type: str(tmp_path / Path(name).name),
    )
    samples = read("winoground", None, tmp_path / "cache", images=4)
    assert [len(samples), samples[0].path.read_bytes() == ITEMS[int(samples[0].item)]["image_0"]] == [4, True]


@pytest.mark.parametrize("name", ["coco", "winoground"])
def test_without_the_library_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the library `datasets`: pip install .*\[hub\]") as caught:
        read(name, None, tmp_path)
    assert caught.value.remedy == "data_dir"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("Dataset 'facebook/winoground' is a gated dataset on the Hub."),
        ConnectionError("Couldn't reach 'facebook/winoground' on the Hub"),
        RuntimeError("anything else"),
    ],
)
def test_errors_of_the_hub_say_what_to_do(library: Hub, tmp_path: Path, error: Exception) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise error

    library(refuse)
    with pytest.raises(InputError) as caught:
        read("winoground", None, tmp_path)
    for part in ("huggingface.co/datasets/facebook/winoground", "hf auth login", str(error)):
        assert part in str(caught.value)
    assert caught.value.remedy == "data_dir"
    with pytest.raises(InputError, match="cannot read lmms-lab/COCO-Caption2017") as caught:
        read("coco", None, tmp_path)
    assert "gated: accept" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_the_hubs_fault(library: Hub, tmp_path: Path) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    library(full)
    with pytest.raises(InputError, match=r"cannot be saved: .*No space left.*PHASEBENCH_CACHE and HF_HOME"):
        hub.coco_folder(tmp_path, 4, 0)


def test_missing_columns_are_named(library: Hub, tmp_path: Path) -> None:
    library(lambda *args, **options: Rows([{"image": png(0)}]))
    with pytest.raises(InputError, match="KeyError: 'question_id'"):
        read("coco", None, tmp_path)
