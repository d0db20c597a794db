"""Printed ids of cases can be given to pytest again, in any folder."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from phasebench.files import packaged_folder
from phasebench.plugin.case_ids import packaged_path
from tests.support.runs import DRIFT, Run

DRIFT_FILE = packaged_folder("cases") / "test_drift.py"


@pytest.mark.parametrize("folder", ["cases", "../cases", "elsewhere/cases"])
@pytest.mark.parametrize("rest", ["", "::test_drift[m-d-inter]"])
def test_a_packaged_case_is_found_in_an_empty_folder(tmp_path: Path, folder: str, rest: str) -> None:
    assert packaged_path(f"{folder}/test_drift.py{rest}", tmp_path) == f"{DRIFT_FILE}{rest}"


@pytest.mark.parametrize("argument", ["cases", "cases/test_mine.py", "test_drift.py", "cases/test_drift.py"])
def test_other_files_are_the_users(tmp_path: Path, argument: str) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "test_drift.py").touch()
    assert packaged_path(argument, tmp_path) == argument


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


@pytest.mark.parametrize("own_file", [False, True])
def test_collected_ids_can_be_collected_again(run: Run, pytester: pytest.Pytester, own_file: bool) -> None:
    """A file of the user's of the same name does not make them ambiguous."""
    if own_file:
        pytester.mkdir("cases")
        (pytester.path / "cases" / "test_drift.py").write_text("# phasebench")
    ids = collected(run("--collect-only", "-q", "-m", "drift"))
    assert len(ids) == DRIFT
    assert all(line.startswith("cases/test_drift.py::test_drift[") for line in ids) is not own_file
    again = collected(run("--collect-only", "-q", *ids[:3]))
    assert [case.partition("::")[2] for case in again] == [case.partition("::")[2] for case in ids[:3]]


@pytest.mark.slow
def test_a_printed_id_runs_the_case_again(run: Run, pytester: pytest.Pytester) -> None:
    result = run("-k", "four_phases or sinks and finding", "--junitxml", "junit.xml")
    (line, *_) = [line for line in result.outlines if line.startswith("FAILED 'cases/")]
    case = line.removeprefix("FAILED ").partition(" - ")[0].strip("'")
    again = run(case)
    assert again.parseoutcomes()["failed"] == 1
    cases = ET.parse(pytester.path / "junit.xml").iter("testcase")  # noqa: S314 (written by this test)
    assert all(case.get("classname", "").startswith("cases.test_") for case in cases)
