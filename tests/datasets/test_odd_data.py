"""Whole runs on unusual data: odd images, captions in other languages or without words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import write_pictures
from tests.support.runs import Run

CAPTIONS = [
    "これは猫です",
    "Собака бежит",
    "قطة على",
    "एक बिल्ली",
    "un gato y un perro",
    "🐈 123 ...",
]


def odd_images() -> list[tuple[str, Image.Image]]:
    sixteen = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    return [
        ("one.png", Image.new("RGB", (1, 1), "red")),
        ("wide.png", Image.new("RGB", (300, 1), "red")),
        ("tall.png", Image.new("L", (3, 200), 99)),
        ("cmyk.jpg", Image.new("CMYK", (40, 30))),
        ("sixteen.png", sixteen),
        ("clear.png", Image.new("RGBA", (32, 32))),
    ]


def write_list(folder: Path, captions: list[Any]) -> Path:
    folder.mkdir()
    lines = []
    for (name, image), caption in zip(odd_images(), captions, strict=True):
        image.save(folder / name)
        lines.append(json.dumps({"image": name, "caption": caption}))
    (folder / "odd.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "odd.jsonl"


def results(pytester: pytest.Pytester) -> Any:
    (run_results,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    return run_results


@pytest.mark.parametrize("model", ["tiny-llava", "tiny-instructblip"])
def test_odd_images_with_captions_in_any_language(
    run: Run, pytester: pytest.Pytester, tmp_path: Path, model: str
) -> None:
    path = write_list(tmp_path / "odd", CAPTIONS)
    options = ("--controls", "--strict-data", "--results", "r.json", "--snapshot-update")
    assert run(*options, model=model, dataset=str(path)).ret == 0
    run_results = results(pytester)
    assert run_results["images"] == [name for name, _ in odd_images()]
    assert run_results["skipped"] == []
    recall = run_results["curves"]["recall"]
    assert recall["n"] == [5] * len(recall["layer"])  # no word in the last caption: no recall of it
    assert run_results["curves"]["inter"]["n"][0] == 6


def test_captions_without_any_word(run: Run, pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = write_list(tmp_path / "odd", ["the", "1", "...", "🐈", "of the", "2 3"])
    result = run("--results", "r.json", "--snapshot-update", dataset=str(path))
    assert result.ret == 0
    run_results = results(pytester)
    assert set(run_results["curves"]["recall"]["mean"]) == {None}
    assert run_results["findings"]["lens_recall_peak"]["verdict"] == "undecided"
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_list_with_skips_and_pairs(run: Run, pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = write_list(tmp_path / "odd", [*CAPTIONS[:5], None])
    (path.parent / "one.png").unlink()
    result = run("-k", "four_phases", "--results", "r.json", "--snapshot-update", dataset=str(path))
    result.stdout.fnmatch_lines(
        ["phasebench: odd: 2 images skipped, 4 measured: 1 without captions (*), 1 missing (*one.png)"]
    )
    assert results(pytester)["images"] == ["wide.png", "tall.png", "cmyk.jpg", "sixteen.png"]


def test_coco_at_a_data_dir(run: Run, pytester: pytest.Pytester) -> None:
    write_pictures(pytester.path / "copies" / "coco", 5, split="val2014")
    options = ("--data-dir", "copies", "--images", "3", "--seed", "4", "--results", "r.json")
    result = run(*options, "-k", "four_phases", "--snapshot-update", dataset="coco")
    assert result.ret == 0
    assert len(results(pytester)["images"]) == 3
    result.stdout.fnmatch_lines([f"rootdir: {pytester.path}", "*phasebench tiny-llava/coco*"])
    assert (pytester.path / "baselines" / "tiny-llava" / "coco" / "verdicts").is_dir()
