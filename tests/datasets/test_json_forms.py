"""JSON files in the forms that published datasets have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phasebench.datasets.layouts import read_file
from phasebench.errors import InputError

ROWS = [{"image": "a.png", "caption": "a cat"}, {"image": "b.png", "caption": "a dog"}]
READ = [("a.png", ("a cat",)), ("b.png", ("a dog",))]


def read(folder: Path, data: Any, name: str = "x.json") -> list[tuple[str, tuple[str, ...]]]:
    text = data if isinstance(data, str) else json.dumps(data)
    (folder / name).write_text(text, encoding="utf-8")
    return [(sample.id, sample.captions) for sample in read_file(folder / name, folder)]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        {"info": {}, "data": ROWS},
        {"a.png": ["a cat"], "b.png": "a dog"},
        {"images": [{"filename": row["image"], "sentences": [{"raw": row["caption"]}]} for row in ROWS]},
        "\n".join(map(json.dumps, ROWS)),
        json.dumps(ROWS, indent=1),
    ],
)
def test_a_json_file_may_have_several_forms(tmp_path: Path, data: Any) -> None:
    assert read(tmp_path, data) == READ


def test_json_lines_may_be_a_list_or_a_single_line(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS, "x.jsonl") == READ
    assert read(tmp_path, ROWS[0], "y.json") == READ[:1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"image": {"0": "a.png"}, "caption": {"0": "a"}},
            r"x\.json, row 1: not an image with captions: .*'image' should",
        ),
        ({"info": 1, "licenses": []}, r"x\.json is in none of the forms .* its keys are info, licenses"),
        ("3", r"x\.json has neither a list nor an object"),
        ("{", r"x\.json is not JSON"),
        ([], r"no items in .*x\.json"),
        (
            [{"image": "a.png", "prompt": "a"}],
            r"x\.json: no row has a caption: its keys are image, prompt; read are capt",
        ),
        ([ROWS[0], 3], r"x\.json, row 2: not an image with captions: .*not an object"),
    ],
)
def test_other_json_is_named(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data)


def karpathy(split: str, number: int) -> dict[str, Any]:
    name = f"COCO_{split}_{number}.jpg"
    sentences = [{"raw": f"caption {number}", "tokens": ["caption"], "sentid": 0}]
    return {"filepath": split, "filename": name, "imgid": number, "split": "test", "sentences": sentences}


@pytest.mark.parametrize("where", ["val2014", "images/val2014", "images"])
def test_karpathys_split_is_read_where_its_images_are(tmp_path: Path, where: str) -> None:
    rows = [karpathy(split, number) for split in ("train2014", "val2014") for number in range(2)]
    (tmp_path / where).mkdir(parents=True)
    for row in rows[2:]:
        (tmp_path / where / row["filename"]).touch()
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    samples = read_file(tmp_path / "dataset_coco.json", tmp_path)
    assert [(sample.path.parent, sample.captions) for sample in samples] == [
        (tmp_path / where, (f"caption {number}",)) for number in range(2)
    ]
