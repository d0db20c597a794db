"""Tables and results, from plain data."""

from __future__ import annotations

from typing import Any

import pytest
from rich.text import Text

from phasebench.report.picture import picture, tables
from phasebench.report.results import Results, curve_table, timing
from phasebench.report.sparkline import sparkline
from phasebench.report.terminal import _drift, _findings, render, skips
from tests.synthetic import FOUR, curves


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([0, 1], "▁█"),
        ([1, 0.5, 0], "█▅▁"),
        ([3, 3, 3], "▁▁▁"),
        ([None, 0, 7], " ▁█"),
        ([None, None], ""),
        ([], ""),
    ],
)
def test_sparklines(values: list[float | None], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_a_sparkline_is_as_long_as_its_curve() -> None:
    assert len(sparkline(list(FOUR))) == 41


CONTROL = {
    "control": "blank", "value": 0.01, "difference": 0.0113, "low": 0.005, "high": 0.02,
    "differs": True, "note": "rise",
}  # fmt: skip


def finding(**changes: Any) -> dict[str, Any]:
    entry = {
        "kind": "finding", "place": "m/d", "id": "four_phases", "verdict": "holds", "recorded": "holds",
        "value": 0.0213, "low": 0.01, "high": 0.031, "passed": True,
        "detail": "rise, fall, rise, fall", "controls": [CONTROL],
    }  # fmt: skip
    return {**entry, **changes}


def drift(curve: str, excess: float | None, *, passed: bool, **changes: Any) -> dict[str, Any]:
    entry = {
        "kind": "drift", "place": "m/d", "curve": curve, "layer": 7, "excess": excess,
        "recorded": 0.5, "measured": 0.6, "passed": passed, "shared": 4, "told": [], "updated": False,
    }  # fmt: skip
    return {**entry, **changes}


def shown(part: Any, width: int = 80) -> str:
    return render(part, width, colour=False)


def test_a_finding_is_told_with_interval_detail_and_control() -> None:
    text = shown(_findings(Results.of([finding()]), "m/d", 80))
    assert "four_phases             holds         0.0213 [0.01, 0.031]" in text
    assert "    rise, fall, rise, fall" in text
    assert "    control blank: 0.01 (rise), differs by 0.0113 [0.005, 0.02]" in text
    assert "recorded" not in text


@pytest.mark.parametrize(
    ("differs", "words"),
    [(False, "not told apart: 0.0113"), (None, "undecided: 0.0113"), (True, "differs by 0.0113")],
)
def test_a_control_is_told_in_words(differs: bool | None, words: str) -> None:
    entry = finding(controls=[{**CONTROL, "differs": differs, "note": ""}])
    assert f"control blank: 0.01, {words}" in shown(_findings(Results.of([entry]), "m/d", 80))


def test_a_verdict_that_differs_from_the_recorded_says_so() -> None:
    text = shown(_findings(Results.of([finding(recorded="undecided", passed=False)]), "m/d", 80))
    assert "recorded: undecided" in text


def test_findings_stand_in_the_papers_order() -> None:
    entries = [finding(id="zz_ours"), finding(id="lens_recall_peak"), finding(id="inter_below_intra")]
    text = shown(_findings(Results.of(entries), "m/d", 80))
    assert text.index("inter_below_intra") < text.index("lens_recall_peak") < text.index("zz_ours")


def test_without_drift_the_closest_curve_is_told() -> None:
    part = _drift(Results.of([drift("inter", 0.2, passed=True), drift("lift", 0.9, passed=True)]), "m/d")
    assert isinstance(part, Text)
    assert "none in 2 curves; closest: lift at layer 7, 0.9 of its tolerance" in shown(part)


def test_drift_stands_worst_first() -> None:
    entries = [
        drift("inter", 3.0, passed=False), drift("lift", None, passed=False, measured=None),
        drift("total", 40.0, passed=False), drift("recall", 0.1, passed=True),
    ]  # fmt: skip
    text = shown(_drift(Results.of(entries), "m/d"))
    assert "drift in 3 of 4 curves" in text
    assert text.index("lift") < text.index("total") < text.index("inter")
    assert "recall" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    text = shown(_findings(Results.of([finding(detail="word " * 60)]), "m/d", width), width)
    assert all(len(line) <= width for line in text.splitlines())


def test_colour_only_where_it_is_wanted() -> None:
    part = _findings(Results.of([finding()]), "m/d", 80)
    assert part is not None
    assert "\x1b[" in render(part, 80, colour=True)
    assert "\x1b[" not in render(part, 80, colour=False)


def test_the_results_are_sorted_by_place_without_inner_keys() -> None:
    entries = [finding(place="b/d"), finding(place="a/d"), drift("inter", 0.5, passed=True, place="a/d")]
    runs = Results.of(entries).as_dict()["runs"]
    assert [run["model"] for run in runs] == ["a", "b"]
    assert "place" not in runs[0]["findings"]["four_phases"]
    assert runs[0]["drift"]["inter"]["excess"] == 0.5


def test_a_curve_by_columns() -> None:
    table = curve_table(curves({"inter": FOUR}, noise=0.01), "total")
    assert table["mean"][0] is None
    assert table["n"][:2] == [0, 60]
    assert len(table["layer"]) == 41


def test_the_overhead_is_of_the_same_images_without_the_first() -> None:
    found = timing([9.0, 2.0, 4.0, 100.0], [9.0, 1.0, 2.0])
    assert found["ratio"] == 2.0
    assert found["total"] == 115.0
    assert timing([1.0], [1.0])["ratio"] is None


def measured(place: str, *reasons: str) -> dict[str, Any]:
    skipped = [{"id": str(i), "path": f"x/{i}.png", "reason": reason} for i, reason in enumerate(reasons)]
    source = {"dataset": place.partition("/")[2]}
    entry = {"kind": "measurement", "images": ["a", "b"], "skipped": skipped, "provenance": source}
    return {**entry, "place": place, "passed": True}


def test_skips_are_told_once_a_dataset_with_the_first_of_each_kind() -> None:
    reasons = ("truncated", "missing", "truncated")
    entries = [measured("m/d", *reasons), measured("n/d", *reasons), measured("m/good"), finding(place="k/d")]
    assert list(skips(Results.of(entries))) == [
        "d: 3 images skipped, 2 measured: 2 truncated (x/0.png, ...), 1 missing (x/1.png)"
    ]


def test_the_picture_keeps_the_tables_only() -> None:
    output = [
        "cases/test_x.py . [100%]",
        "=== phasebench m/d ===",
        "\x1b[32mholds\x1b[0m",
        "--- benchmark ---",
        "Name",
    ]
    assert list(tables(output)) == ["=== phasebench m/d ===", "\x1b[32mholds\x1b[0m"]
    svg = picture(output, "title")
    assert svg.startswith("<svg")
    assert "holds" in svg
    assert "Name" not in svg
