"""Example images in the HTML report: their words and their attention, moved by one slider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasebench.catalog import CURVES
from phasebench.report.entries import Columns, MeasurementEntry
from tests.support.entries import measurement
from tests.support.html import page_of

HEATMAP = [[1.0, 2.0, 1.0, 0.0], [0.0, None, 0.0, 4.0]]


def example(tmp_path: Path, **changes: Any) -> MeasurementEntry:
    """A measurement of two layers whose example image has two image tokens of four positions."""
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    columns: Columns = {"layer": [0, 1, 2], "mean": [0.1, 0.2, 0.3], "se": [0.0] * 3, "n": [2] * 3}
    fields: dict[str, Any] = {
        "curves": dict.fromkeys(CURVES, columns),
        "layout": {"length": 4, "visual": [[1, 3]], "text": 2},
        "heatmaps": {"a": HEATMAP},
        "words": {"a": [["x", "y"]] * 3},
        "pictures": {"a": {"path": str(tmp_path / "a.png"), "captions": ["red"], "references": ["x"]}},
        "patches": {"rows": 1, "columns": 2, "fit": "fill"},
    }
    return measurement(**{**fields, **changes})


def test_the_attention_on_the_patches_is_their_share_of_the_norms(tmp_path: Path) -> None:
    report = page_of(example(tmp_path))
    data = report.data["examples"]["m/d/a"]
    assert data["attention"] == [None, [0.5, 0.25], [0.0, 0.0]]
    assert data["words"] == [["x", "y"]] * 3
    assert 'class="cells attention"' in report.text


@pytest.mark.parametrize(
    ("changes", "has_words", "has_attention"),
    [
        ({"heatmaps": {}}, True, False),
        ({"heatmaps": {"a": [[None] * 4] * 2}}, True, False),
        ({"layout": [{"length": 4, "visual": [[1, 3]], "text": 2}]}, True, False),
        ({"words": {"a": []}}, False, True),
        ({"words": {"a": []}, "heatmaps": {}}, False, False),
    ],
)
def test_only_the_measured_parts_of_an_example_are_shown(
    tmp_path: Path, changes: dict[str, Any], has_words: bool, has_attention: bool
) -> None:
    report = page_of(example(tmp_path, **changes))
    assert ('class="cells words"' in report.text) is has_words
    assert ('class="cells attention"' in report.text) is has_attention


def test_one_slider_for_the_figures_and_examples_of_a_model_and_dataset(tmp_path: Path) -> None:
    report = page_of(example(tmp_path), example(tmp_path, run="n/d"))
    sliders = [a for tag, a in report.elements if tag == "input" and a["type"] == "range"]
    assert [(a["id"], a["min"], a["max"]) for a in sliders] == [
        ("m/d/layer", "0", "2"),
        ("n/d/layer", "0", "2"),
    ]
    figures = report.data["figures"]
    assert {figures[f"m/d/figure-{number}"]["layout"]["meta"]["layers"] for number in (1, 5)} == {"x"}
    assert figures["m/d/figure-4-heatmap-1"]["layout"]["meta"]["layers"] == "y"
    assert figures["models/d/models-inter"]["layout"]["meta"]["layers"] is None
