"""Results as plain data, and what is told of a run beside its tables."""

from __future__ import annotations

from typing import Any

from phasebench.report.results import Results, curve_table, timing
from phasebench.report.terminal import skips
from tests.support.entries import drift, finding
from tests.support.picture import picture, tables
from tests.support.synthetic import FOUR, curves


def test_the_results_are_sorted_by_place_without_inner_keys() -> None:
    entries = [finding(run="b/d"), finding(run="a/d"), drift("inter", 0.5, passed=True, run="a/d")]
    runs = Results.of(entries).as_dict()["runs"]
    assert [run["model"] for run in runs] == ["a", "b"]
    assert "run" not in runs[0]["findings"]["four_phases"]
    assert runs[0]["drift"]["inter"]["excess"] == 0.5


def test_a_curve_by_columns() -> None:
    table = curve_table(curves({"inter": FOUR}, noise=0.01), "total")
    assert table["mean"][0] is None
    assert table["n"][:2] == [0, 60]
    assert len(table["layer"]) == 41


def test_the_overhead_is_of_the_same_images_without_the_first() -> None:
    found = timing([9.0, 2.0, 4.0, 100.0], [(9.0, 9.0), (2.0, 1.0), (4.0, 2.0)])
    assert found["ratio"] == 2.0
    assert found["total"] == 115.0
    assert timing([1.0], [(1.0, 1.0)])["ratio"] is None


def measured(run_id: str, *reasons: str) -> dict[str, Any]:
    skipped = [{"id": str(i), "path": f"x/{i}.png", "reason": reason} for i, reason in enumerate(reasons)]
    source = {"dataset": run_id.partition("/")[2]}
    entry = {"kind": "measurement", "images": ["a", "b"], "skipped": skipped, "provenance": source}
    return {**entry, "run": run_id, "passed": True}


def test_skips_are_told_once_a_dataset_with_the_first_of_each_kind() -> None:
    reasons = ("truncated", "missing", "truncated")
    entries = [measured("m/d", *reasons), measured("n/d", *reasons), measured("m/good"), finding(run="k/d")]
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
