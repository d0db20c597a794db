"""--against NAME: another model's baselines, differences in standard deviations, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DRIFT, FINDING, LATENCY, Run

FAILED, USAGE = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR
Change = Callable[[dict[str, Any]], None]


def change(path: Path, how: Change) -> None:
    record = json.loads(path.read_text())
    how(record)
    path.write_text(json.dumps(record))


def moved(by: float, layer: int = 3) -> Change:
    def shift(record: dict[str, Any]) -> None:
        record["layers"][layer]["mean"] += by
        for row in record["images"].values():
            row[layer] += by

    return shift


@pytest.fixture
def teacher(run: Run, pytester: pytest.Pytester) -> Path:
    """Baselines of tiny-llava under another name."""
    assert run("--snapshot-update").ret == 0
    folder = pytester.path / "baselines"
    (folder / "tiny-llava").rename(folder / "teacher")
    return folder / "teacher" / "pics"


def test_what_is_alike_passes_and_the_header_names_the_other(run: Run, teacher: Path) -> None:
    before = {path: path.read_bytes() for path in teacher.rglob("*.json")}
    result = run("--against", "teacher")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["phasebench: tiny-llava on pics against teacher; *"])
    assert {path: path.read_bytes() for path in teacher.parent.parent.rglob("*.json")} == before


def test_a_large_difference_fails_with_its_effect_and_interval(
    run: Run, teacher: Path, pytester: pytest.Pytester
) -> None:
    change(teacher / "inter.json", moved(0.3))
    result = run("--against", "teacher", "-m", "drift", "--results", "results.json")
    result.assert_outcomes(passed=DRIFT - 1, failed=1, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(
        ["*tiny-llava/pics against teacher inter: inter drifted at 1 of 7 layers; worst at layer 3"]
    )
    (one,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    found = one["drift"]["inter"]
    assert found["low"] == pytest.approx(-0.3, abs=1e-3)
    assert found["high"] == pytest.approx(-0.3, abs=1e-3)
    assert found["effect"] < -1
    assert found["shared"] == 4


def test_a_checkpoint_of_a_new_name_is_measured_under_the_recorded_prompt(
    run: Run, teacher: Path, pytester: pytest.Pytester, cache: Path
) -> None:
    """Its processor alone would ask for something else, and everything would differ."""
    result = run("--against", "teacher", "--results", "results.json", model=f"tuned={cache / 'tiny-llava-1'}")
    (one,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    recorded = json.loads((teacher / "inter.json").read_text())
    assert one["provenance"]["prompt"] == recorded["provenance"]["prompt"]
    assert result.ret == 0
    other = run("--results", "results.json", "-m", "drift", model=f"tuned={cache / 'tiny-llava-1'}")
    (one,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert "Describe the image." in one["provenance"]["prompt"]
    assert other.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.slow
def test_the_effect_that_is_let_through_is_an_option(run: Run, teacher: Path) -> None:
    change(teacher / "inter.json", moved(0.3))
    assert run("--against", "teacher", "-m", "drift", "--effect", "1e6").ret == 0
    assert run("--against", "teacher", "-m", "drift", "--effect", "0").ret == FAILED


def test_a_verdict_that_flipped_fails(run: Run, teacher: Path) -> None:
    path = teacher / "verdicts" / "four_phases.json"
    other = {"holds": "undecided"}
    change(path, lambda record: record.update(verdict=other.get(record["verdict"], "holds")))
    result = run("--against", "teacher", "-m", "finding")
    result.assert_outcomes(passed=5, failed=1, deselected=DRIFT + LATENCY)
    result.stdout.fnmatch_lines(["*against teacher four_phases: recorded: *; now: *"])


def test_another_layout_is_told_in_words(run: Run, teacher: Path) -> None:
    def relaid(record: dict[str, Any]) -> None:
        moved(0.3)(record)
        layout = record["provenance"]["layout"]
        start, end = layout["visual"][0]
        record["provenance"]["layout"] = {
            **layout,
            "visual": [[start, end + 1]],
            "length": layout["length"] + 1,
        }

    change(teacher / "inter.json", relaid)
    result = run("--against", "teacher", "-m", "drift")
    result.stdout.fnmatch_lines(["*layout differs: image tokens 17 -> 16, prompt length *"])


def test_an_unknown_name_is_refused_with_what_is_recorded(run: Run, teacher: Path) -> None:
    result = run("--against", "teecher")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["*--against teecher: no baselines of it on pics; recorded: *smol-llava on *; teacher on pics*"]
    )


def test_a_dataset_that_it_has_nothing_of_is_named(run: Run, teacher: Path) -> None:
    result = run("--against", "teacher", "--dataset", "scenes")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--against teacher: no baselines of it on scenes; *"])


@pytest.mark.parametrize("option", ["--snapshot-update", "--snapshot-update-new-only"])
def test_nothing_is_recorded_under_anothers_name(run: Run, teacher: Path, option: str) -> None:
    result = run("--against", "teacher", option)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--against teacher: nothing is recorded under another model's name*"])


def test_an_effect_needs_another_model(run: Run) -> None:
    result = run("--effect", "0.2")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--effect: only with --against NAME*"])


@pytest.mark.parametrize("value", ["-1", "nan", "much"])
def test_an_effect_is_a_number_from_zero(run: Run, value: str) -> None:
    result = run("--against", "x", f"--effect={value}")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--effect*"])
