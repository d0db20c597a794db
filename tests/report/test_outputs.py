"""Outputs: what asks for each, in which order they are written, and what happens where one cannot be."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_pdf  # noqa: F401 (imported here, it outlives pytest runs inside tests)
import pytest

from phasebench.errors import InputError
from phasebench.report import outputs
from phasebench.report.outputs import OUTPUTS, Output, check, write
from phasebench.report.results import Failure, Results
from tests.support.entries import drift, finding, measurement

BY_NAME = {output.name: output for output in OUTPUTS}
OPTIONS = [output.name for output in OUTPUTS if output.is_option]
RESULTS = Results.of([measurement(), finding()])
CHANGED = Results.of([finding(passed=False)], [Failure("test_x", "verdict changed", [finding(passed=False)])])


def parsed_options(**targets: Path | None) -> Namespace:
    """Parsed options of a run: no output is asked for but the targets."""
    return Namespace(**{**dict.fromkeys(("results", "html", "figures", "store")), **targets})


def options_for(name: str, target: Path) -> Namespace:
    return parsed_options(**{BY_NAME[name].dest: target})


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub's variables are not set, wherever the test runs."""
    for output in OUTPUTS:
        if not output.is_option:
            monkeypatch.delenv(output.name, raising=False)


def test_there_are_five_outputs_and_the_numbers_are_written_before_anything_that_draws() -> None:
    names = [output.name for output in OUTPUTS]
    assert names == ["--results", "--html", "--figures", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"]
    assert [bool(output.help) for output in OUTPUTS] == [output.is_option for output in OUTPUTS]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_asks_for_its_output_and_for_no_other(name: str, tmp_path: Path) -> None:
    option = options_for(name, tmp_path / "target")
    assert [o.name for o in OUTPUTS if o.target(option, {}) == tmp_path / "target"] == [name]
    assert [o.name for o in OUTPUTS if o.target(option, {})] == [name]


def test_an_option_that_the_parser_does_not_know_asks_for_nothing() -> None:
    assert [output.target(Namespace(), {}) for output in OUTPUTS] == [None] * len(OUTPUTS)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"GITHUB_STEP_SUMMARY": ""}, []),
        ({"GITHUB_STEP_SUMMARY": "step.md"}, ["GITHUB_STEP_SUMMARY"]),
        ({"GITHUB_ACTIONS": "true"}, ["GITHUB_ACTIONS"]),
        ({"GITHUB_ACTIONS": "false"}, []),
        ({"GITHUB_ACTIONS": "1"}, []),
        ({"GITHUB_STEP_SUMMARY": "a", "GITHUB_ACTIONS": "true"}, ["GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"]),
        ({"--results": "r.json", "results": "r.json"}, []),
    ],
)
def test_variables_ask_for_githubs_outputs(environment: Mapping[str, str], names: list[str]) -> None:
    assert [o.name for o in OUTPUTS if o.target(parsed_options(), environment)] == names


def test_a_run_that_is_asked_for_nothing_writes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(write(parsed_options(), RESULTS)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "line", "file", "beginning"),
    [
        ("--results", "phasebench: results written to {}", "", b'{\n "schema": 1,'),
        ("--html", "phasebench: report written to {}", "", b"<!doctype html>"),
        ("--figures", "phasebench: 4 figures written to {}, as PNG and PDF", "m/d/figure-1.pdf", b"%PDF"),
    ],
)
def test_each_option_writes_its_target_and_names_it(
    name: str, line: str, file: str, beginning: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    assert list(write(options_for(name, target), RESULTS)) == [(line.format(target), True)]
    written = target / file if file else target
    assert written.read_bytes()[: len(beginning)].lower() == beginning.lower()


@pytest.mark.parametrize("name", OPTIONS)
def test_an_interrupted_run_without_a_result_writes_nothing_and_says_so(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    interrupted = Results.of([], interrupted="interrupted before an image was measured")
    line = f"phasebench: {name} {target} is not written: no case was finished"
    assert list(write(options_for(name, target), interrupted)) == [(line, True)]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_writes_the_results_that_it_has(tmp_path: Path) -> None:
    interrupted = Results.of([measurement()], interrupted="interrupted; 2 of 4 images are measured")
    target = tmp_path / "r.html"
    ((_, is_written),) = write(options_for("--html", target), interrupted)
    assert is_written
    assert "interrupted; 2 of 4 images are measured" in target.read_text(encoding="utf-8")


def test_the_summary_is_added_to_the_file_that_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert list(write(parsed_options(), CHANGED)) == [
        ("phasebench: summary written for the GitHub step", True)
    ]
    assert path.read_text(encoding="utf-8").startswith("before\n### ❌ m/d\n")


def test_errors_are_printed_where_the_run_is_one_of_githubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert list(write(parsed_options(), CHANGED)) == [("::error title=test_x::verdict changed", True)]
    assert list(write(parsed_options(), RESULTS)) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_target_that_became_unwritable_during_the_run_is_reported_and_not_written(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    target = tmp_path / "file" / "target"
    ((line, written),) = write(options_for(name, target), RESULTS)
    assert line.startswith(f"phasebench: {name} {target} could not be written: ")
    assert str(tmp_path / "file") in line
    assert not written


def test_what_cannot_be_written_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    option = parsed_options(results=tmp_path / "file" / "r.json", html=tmp_path / "r.html")
    assert [written for _, written in write(option, RESULTS)] == [False, True]
    assert (tmp_path / "r.html").exists()


def test_a_summary_that_cannot_be_written_does_not_make_a_run_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "gone" / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert list(write(parsed_options(), CHANGED)) == [
        (f"phasebench: GITHUB_STEP_SUMMARY: cannot write {target}: No such file or directory", True),
        ("::error title=test_x::verdict changed", True),
    ]


def test_the_results_are_whole_even_where_what_draws_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path, __: Results) -> Iterator[str]:
        raise RuntimeError("cannot draw")
        yield ""

    drawing = ("--html", "--figures")
    broken = tuple(replace(o, write=failing) if o.name in drawing else o for o in OUTPUTS)
    monkeypatch.setattr(outputs, "OUTPUTS", broken)
    option = parsed_options(results=tmp_path / "r.json", html=tmp_path / "r.html")
    with pytest.raises(RuntimeError, match="cannot draw"):
        list(write(option, RESULTS))
    assert json.loads((tmp_path / "r.json").read_text()) == RESULTS.as_dict()


def test_a_row_that_is_added_to_the_table_is_checked_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(path: Path, results: Results) -> Iterator[str]:
        path.write_text(str(len(results.run_ids)))
        yield f"counted into {path}"

    monkeypatch.setattr(outputs, "OUTPUTS", (*OUTPUTS, Output("--count", count, "Count the runs.")))
    option = Namespace(count=tmp_path / "n", store=None)
    check(option)
    assert list(write(option, RESULTS)) == [(f"counted into {tmp_path / 'n'}", True)]
    assert (tmp_path / "n").read_text() == "1"


def test_targets_that_can_be_written_pass_and_nothing_is_made_of_them(tmp_path: Path) -> None:
    names = {"results": "new/r.json", "html": "r.html", "figures": "new/figures", "store": "new/store"}
    check(parsed_options(**{name: tmp_path / path for name, path in names.items()}))
    check(parsed_options())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("results", "folder", "--results {}: is a folder; name a file"),
        ("html", "folder", "--html {}: is a folder; name a file"),
        ("figures", "file", "--figures {}: is a file; name a folder"),
        ("store", "file", "--store {}: is a file; name a folder"),
        ("results", "file/r.json", "--results {}: {file} is a file; name another folder"),
        ("html", "file/x/r.html", "--html {}: {file} is a file; name another folder"),
        ("figures", "file/x", "--figures {}: {file} is a file; name another folder"),
    ],
)
def test_targets_that_cannot_be_written(tmp_path: Path, name: str, path: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught:
        check(parsed_options(**{name: tmp_path / path}))
    assert str(caught.value) == message.format(tmp_path / path, file=tmp_path / "file")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_target_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    checked: list[Path] = []

    def refusing(path: Path, _: int) -> bool:
        checked.append(path)
        return False

    monkeypatch.setattr(os, "access", refusing)
    target = tmp_path / "new" / "target"
    with pytest.raises(InputError) as caught:
        check(options_for(name, target))
    assert str(caught.value) == f"{name} {target}: cannot be written; name another place"
    assert checked == [tmp_path]


@pytest.mark.parametrize(
    ("first", "second"), [("results", "html"), ("results", "figures"), ("html", "figures")]
)
def test_two_options_cannot_have_the_same_target(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "folder").mkdir()
    same = tmp_path / "folder" / ".." / "target"
    with pytest.raises(InputError) as caught:
        check(parsed_options(**{first: tmp_path / "target", second: same}))
    assert str(caught.value) == f"--{second} {same}: --{first} writes to the same path; name another file"


@pytest.mark.parametrize(
    ("name", "missing", "needed"),
    [
        ("--html", ("plotly",), "plotly"),
        ("--html", ("plotly", "jinja2"), "plotly and jinja2"),
        ("--figures", ("matplotlib",), "matplotlib"),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: tuple[str, ...], needed: str
) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda module: None if module in missing else module)
    with pytest.raises(InputError) as caught:
        check(options_for(name, tmp_path / "target"))
    assert str(caught.value) == f"{name} needs {needed}: pip install 'phasebench[report]'"
    check(options_for("--results", tmp_path / "target"))


def test_variables_are_not_checked_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    check(parsed_options())


def test_drift_in_the_results_file_is_as_it_was_measured(tmp_path: Path) -> None:
    results = Results.of([drift("inter", 0.5, passed=True)])
    list(write(parsed_options(results=tmp_path / "r.json"), results))
    (run,) = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert run["drift"]["inter"]["excess"] == 0.5
