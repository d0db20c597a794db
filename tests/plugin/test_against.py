"""--against NAME: another model's baselines, differences in standard deviations, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import DRIFT, FINDING, LATENCY, Run

pytestmark = pytest.mark.slow  # whole runs; test_plugin.py has quick ones

FAILED, USAGE = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR
Change = Callable[[dict[str, Any]], None]


def change(path: Path, apply: Change) -> None:
    """Apply a change to the record in a file."""
    record = json.loads(path.read_text())
    apply(record)
    path.write_text(json.dumps(record))


def shift(size: float, layer: int = 3) -> Change:
    """A change of all images at one layer of a curve's record."""

    def apply(record: dict[str, Any]) -> None:
        record["layers"][layer]["mean"] += size
        for row in record["images"].values():
            row[layer] += size

    return apply


@pytest.fixture
def teacher(recorded: Path) -> Path:
    """Baselines of tiny-llava under another name."""
    folder = recorded.parent.rename(recorded.parents[1] / "teacher")
    return folder / "pics"


def test_equal_curves_pass_and_the_header_names_the_other_model(run: Run, teacher: Path) -> None:
    before = {path: path.read_bytes() for path in teacher.rglob("*.json")}
    result = run("--against", "teacher")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["phasebench: tiny-llava on pics against teacher; *"])
    assert {path: path.read_bytes() for path in teacher.parent.parent.rglob("*.json")} == before


def test_a_large_difference_fails_with_effect_interval_and_layout(
    run: Run, teacher: Path, pytester: pytest.Pytester
) -> None:
    def lengthen(record: dict[str, Any]) -> None:
        layout = record["provenance"]["layout"]
        start, end = layout["visual"][0]
        visual, length = [[start, end + 1]], layout["length"] + 1
        record["provenance"]["layout"] = {**layout, "visual": visual, "length": length}

    change(teacher / "inter.json", shift(0.3))
    change(teacher / "inter.json", lengthen)
    result = run("--against", "teacher", "-m", "drift", "--results", "results.json")
    result.assert_outcomes(passed=DRIFT - 1, failed=1, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(
        [
            "against teacher: drifted at 1 of 7 layers; worst at layer 3",
            "*layout differs: image tokens 17 -> 16, prompt length *",
        ]
    )
    (run_results,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    difference = run_results["drift"]["inter"]
    assert difference["low"] == pytest.approx(-0.3, abs=1e-3)
    assert difference["high"] == pytest.approx(-0.3, abs=1e-3)
    assert difference["effect"] < -1
    assert difference["shared"] == 4


def test_a_checkpoint_of_a_new_name_is_measured_with_the_recorded_prompt(
    run: Run, teacher: Path, pytester: pytest.Pytester, cache: Path
) -> None:
    """Its processor alone has another prompt, with which every curve would differ."""
    model, results = f"tuned={cache / 'tiny-llava-1'}", pytester.path / "results.json"

    def measured_prompt() -> str:
        (run_results,) = json.loads(results.read_text())["runs"]
        return str(run_results["provenance"]["prompt"])

    result = run("--against", "teacher", "--results", "results.json", model=model)
    assert measured_prompt() == json.loads((teacher / "inter.json").read_text())["provenance"]["prompt"]
    assert result.ret == 0
    result = run("--results", "results.json", "-m", "drift", model=model)
    assert "Describe the image." in measured_prompt()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.slow
def test_the_allowed_effect_is_an_option(run: Run, teacher: Path) -> None:
    change(teacher / "inter.json", shift(0.3))
    assert run("--against", "teacher", "-m", "drift", "--effect", "1e6").ret == 0
    assert run("--against", "teacher", "-m", "drift", "--effect", "0").ret == FAILED


def test_a_verdict_that_changed_fails(run: Run, teacher: Path) -> None:
    path = teacher / "verdicts" / "four_phases.json"
    changes = {"holds": "undecided"}
    change(path, lambda record: record.update(verdict=changes.get(record["verdict"], "holds")))
    result = run("--against", "teacher", "-m", "finding")
    result.assert_outcomes(passed=5, failed=1, deselected=DRIFT + LATENCY)
    result.stdout.fnmatch_lines(["*against teacher: recorded *, now *"])


def test_an_unknown_name_is_refused_with_the_recorded_names(run: Run, teacher: Path) -> None:
    result = run("--against", "teecher")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["*--against teecher: no baselines of it on pics; recorded: *smol-llava on *; teacher on pics*"]
    )


def test_a_dataset_without_baselines_is_named(run: Run, teacher: Path) -> None:
    result = run("--against", "teacher", "--dataset", "scenes")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--against teacher: no baselines of it on scenes; *"])


@pytest.mark.parametrize("option", ["--snapshot-update", "--snapshot-update-new-only"])
def test_nothing_is_recorded_under_another_models_name(run: Run, teacher: Path, option: str) -> None:
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
