"""Comparisons with baselines are reported as they are, whatever the outcome of the case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phasebench.files import packaged_folder
from phasebench.judge.drift import baseline_folders
from phasebench.judge.drift.tolerance import FILE
from phasebench.plugin import session
from tests.support.runs import DRIFT, Run

pytestmark = pytest.mark.slow  # whole runs; test_plugin.py has quick ones

FAILED = pytest.ExitCode.TESTS_FAILED
XFAIL = """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.endswith("max_logit]"):
            item.add_marker(pytest.mark.xfail(reason="known"))
"""


def recorded_images(folder: Path) -> set[int]:
    """The numbers of images that the baselines in a folder are from."""
    return {json.loads(path.read_text())["provenance"]["images"] for path in folder.rglob("*.json")}


def test_curves_that_agree_are_reported_so_in_a_case_that_fails(
    run: Run, recorded: Path, pytester: pytest.Pytester
) -> None:
    path = pytester.makepyfile(
        """
        def test_mine(measurement, check_drift, judge):
            check_drift("inter")
            judge("four_phases")
            assert measurement.curves.last == 5
        """
    )
    result = run(str(path), "--results", "results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no drift in 1 curves; nearest: inter, *"])
    result.stdout.no_fnmatch_line("drift in 1 of 1 *")


def test_a_verdict_is_reported_whatever_the_outcome_of_its_case(
    run: Run, recorded: Path, pytester: pytest.Pytester
) -> None:
    """It is red if it changed although its case is expected to fail, and green if only the case failed."""
    path = pytester.makepyfile(
        """
        import pytest
        @pytest.mark.xfail(reason="known")
        def test_first(measurement, judge):
            judge("four_phases")
        def test_second(measurement, judge):
            judge("attention_sinks")
            assert measurement.curves.last == 5
        """
    )
    verdict = recorded / "verdicts" / "four_phases.json"
    now = json.loads(verdict.read_text())["verdict"]
    before = "undecided" if now == "holds" else "holds"
    verdict.write_text(verdict.read_text().replace(f'"verdict": "{now}"', f'"verdict": "{before}"'))
    result = run(str(path), "--color=yes")
    result.assert_outcomes(failed=1, xfailed=1)
    red = "\x1b[1;31m"
    assert any(line.startswith(f"{red}four_phases ") for line in result.outlines)
    assert any(line.startswith("attention_sinks ") for line in result.outlines)


def test_a_missing_baseline_is_red_under_strict_baselines(
    run: Run, recorded: Path, pytester: pytest.Pytester
) -> None:
    (recorded / "max_logit.json").unlink()
    pytester.makeconftest(XFAIL)
    assert run("-m", "drift", "--strict-baselines", "--html", "report.html").ret == 0
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "</span> differs</span>" in report


def test_an_expected_drift_is_reported_as_drift(run: Run, recorded: Path, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(XFAIL)
    result = run("--lens-norm", "off", "-m", "drift", "--html", "report.html")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"drift in 1 of {DRIFT} curves, worst first"])
    assert "</span> differs</span>" in (pytester.path / "report.html").read_text(encoding="utf-8")


def test_an_unreadable_baseline_is_in_the_report(run: Run, recorded: Path, pytester: pytest.Pytester) -> None:
    (recorded / "max_logit.json").write_text("{")
    pytester.makeconftest(XFAIL)
    assert run("-m", "drift", "--html", "report.html").ret == 0
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "max_logit</th>" in report
    assert "</span> differs</span>" in report


def test_a_verdict_in_a_curves_file_is_reported_and_replaced(run: Run, recorded: Path) -> None:
    """The likely cause is inferred from all other curves."""
    (recorded / "inter.json").write_text((recorded / "verdicts" / "four_phases.json").read_text())
    result = run("-m", "drift", "--lens-norm", "off")
    result.assert_outcomes(passed=DRIFT - 2, failed=2, deselected=8)
    result.stdout.fnmatch_lines(["the baseline of inter holds a verdict; rewrite it with --*"])
    result.stdout.fnmatch_lines(["drifted at *", "likely cause: final norm or output head*"])
    assert run("-m", "drift", "--snapshot-update").ret == 0
    assert "layers" in json.loads((recorded / "inter.json").read_text())


def test_fewer_images_in_a_precision_without_tolerance_replace_nothing(
    run: Run, pytester: pytest.Pytester
) -> None:
    """Two 16-bit precisions are not compared; that is no reason to replace one by the other."""
    folder = pytester.path / "baselines"
    assert run("--dtype", "bfloat16", "--snapshot-update", "-m", "drift").ret == 0
    refused = run("--dtype", "float16", "--images", "2", "--snapshot-update", "-m", "drift")
    assert refused.ret == FAILED
    refused.stdout.fnmatch_lines(
        ["differs from its baseline, but recorded on 4 images, measured on 2: raise --im*"]
    )
    refused.stdout.no_fnmatch_line("*likely cause*")
    assert recorded_images(folder) == {4}


def test_fewer_images_do_not_hide_packaged_baselines(
    run: Run, recorded: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = recorded.parents[1].rename(pytester.path / "packaged")
    shutil.copy(packaged_folder("baselines") / FILE, packaged)
    monkeypatch.setattr(session, "Folders", lambda own, _: baseline_folders.Folders(own, packaged))
    refused = run("--lens-norm", "off", "--images", "3", "--snapshot-update", "-m", "drift")
    assert refused.ret == FAILED
    refused.stdout.fnmatch_lines(
        ["differs from its baseline*raise --images, or name the model anew (--model *"]
    )
    assert not (pytester.path / "baselines").exists()


OWN_FINDING = """
from dataclasses import replace
import numpy as np
from phasebench import Condition, Finding, estimate, verdict

def judge(evidence):
    last = estimate(evidence.curves, ("inter",), lambda means: means["inter"][..., -1])
    return replace(verdict([Condition("inter at the end", last)], ""), data=DATA)

def pytest_phasebench_findings(config):
    return [Finding("ours", "Ours.", "here", judge)]
"""


def test_a_finding_whose_data_cannot_be_written_is_named(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(OWN_FINDING.replace("DATA", "{'peak': np.int64(3)}"))
    result = run("-k", "own_finding", "--results", "results.json")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["*finding ours: its verdict's data cannot be written as JSON: *int64*"])
    assert (pytester.path / "results.json").is_file()


def test_a_findings_own_data_replace_no_field_of_the_results(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        OWN_FINDING.replace("DATA", "{'run': 'left', 'kind': 'x', 'id': 'y', 'side': 'left'}")
    )
    run("-k", "own_finding", "--results", "results.json", "--snapshot-update")
    (run_results,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert (run_results["model"], run_results["dataset"]) == ("tiny-llava", "pics")
    assert run_results["findings"]["ours"]["side"] == "left"


def test_a_case_may_use_the_model_alone(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile("def test_mine(loaded): assert loaded.name == 'tiny-llava'")
    run(str(path)).assert_outcomes(passed=1)


def test_github_gets_the_exceptions_message_and_not_the_code(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    path = pytester.makepyfile("def test_mine(measurement): assert measurement.curves.last == 5, 'too deep'")
    result = run(str(path))
    result.stdout.fnmatch_lines(["::error title=test_mine*::AssertionError: too deep"])


def test_two_items_are_too_few_to_compare_with_another_model(run: Run, recorded: Path) -> None:
    recorded.parent.rename(recorded.parents[1] / "teacher")
    result = run("--against", "teacher", "--images", "2", "-m", "drift", "-rs")
    result.assert_outcomes(skipped=DRIFT, deselected=8)
    result.stdout.fnmatch_lines(["*fewer than 3 items cannot be compared with others; raise --images*"])


def test_two_recorded_items_are_too_few_for_another_model(run: Run, pytester: pytest.Pytester) -> None:
    """More images of the measured model do not help."""
    assert run("--images", "2", "--snapshot-update").ret == 0
    folder = pytester.path / "baselines"
    (folder / "tiny-llava").rename(folder / "teacher")
    result = run("--against", "teacher", "-m", "drift", "-rs")
    result.assert_outcomes(skipped=DRIFT, deselected=8)
    result.stdout.fnmatch_lines(["*fewer than 3 items cannot be compared with others; record more of them*"])
