"""What GitHub is told of failed cases: only there, worst first, no more than it shows."""

from __future__ import annotations

import pytest

from phasebench.report.annotations import MAX_ANNOTATIONS, Failure, errors
from tests.conftest import Run


def drifted(case: str, excess: float | None) -> Failure:
    return Failure(case, f"{case} drifted", [{"kind": "drift", "excess": excess}])


def test_errors_stand_worst_first() -> None:
    failures = [
        drifted("a", 2.0),
        drifted("b", 30.0),
        Failure("c", "verdict", [{"kind": "finding"}]),
        drifted("d", None),
        Failure("e", "cannot load"),
    ]
    told = [line.split("=")[1].split("::")[0] for line in errors(failures)]
    assert told == ["e", "c", "d", "b", "a"]


def test_only_the_first_line_is_told_and_nothing_in_it_is_a_command() -> None:
    (line,) = errors([Failure("test_x[m/d-50%,a:b]", "\n\nexcess 50%\nlayer 3\n::warning::no")])
    assert line == "::error title=test_x[m/d-50%25%2Ca%3Ab]::excess 50%25"
    assert list(errors([Failure("x", "")])) == ["::error title=x::failed"]


@pytest.mark.parametrize(
    ("count", "lines"),
    [
        (0, 0),
        (1, 1),
        (MAX_ANNOTATIONS, MAX_ANNOTATIONS),
        (MAX_ANNOTATIONS + 1, MAX_ANNOTATIONS),
        (500, MAX_ANNOTATIONS),
    ],
)
def test_no_more_than_github_shows(count: int, lines: int) -> None:
    told = list(errors([drifted(f"c{index}", 2.0) for index in range(count)]))
    assert len(told) == lines
    if count > MAX_ANNOTATIONS:
        assert told[-1] == f"::error title=phasebench::{count - MAX_ANNOTATIONS + 1} more cases failed"


def test_a_workflow_is_told_what_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("-m", "finding")
    told = [line for line in result.outlines if line.startswith("::error")]
    assert 0 < len(told) == result.parseoutcomes()["failed"]
    assert all(line.startswith("::error title=test_") and "::tiny-llava/pics " in line for line in told)


def test_what_cannot_be_measured_is_told_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("--prompt", "no image here", "-k", "phases")
    assert [line for line in result.outlines if line.startswith("::error title=test_four_phases")]


def test_outside_github_no_error_line_is_printed(run: Run) -> None:
    run("-m", "finding").stdout.no_fnmatch_line("::error*")
