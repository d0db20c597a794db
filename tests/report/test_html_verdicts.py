"""Verdicts and drift in the HTML report: red is for failures only, and they stand first."""

from __future__ import annotations

import re

from phasebench.report.results import Failure
from tests.support.entries import drift, finding, measurement
from tests.support.html import Page, page_of


def statuses(report: Page) -> list[tuple[str, str]]:
    """``(state, text)`` of every verdict and drift on the page."""
    pattern = r'data-state="(\w+)">(?:<span aria-hidden="true">.</span> )?(.*?)</span>'
    return re.findall(pattern, report.text[: report.text.index('id="data"')])


def sections(report: Page) -> list[str]:
    return [a["aria-labelledby"] or "" for tag, a in report.elements if tag == "section"]


def test_failures_stand_first_then_changes_then_the_rest() -> None:
    entries = [
        finding(run="a/d"),
        finding(run="b/d", recorded="undecided", passed=False, claim="It rises."),
        drift("inter", 30.0, passed=False, run="b/d", cause="another prompt"),
        drift("lift", 0.5, passed=True, run="c/d", updated=True),
    ]
    report = page_of(*entries)
    assert sections(report) == ["failures", "changes", "overview", "b/d", "a/d", "c/d"]
    failures = report.text[report.text.index('id="failures"') : report.text.index('id="changes"')]
    assert all(words in failures for words in ("It rises.", "holds; recorded: undecided", "another prompt"))
    changes = report.text[report.text.index('id="changes"') : report.text.index('id="overview"')]
    assert "baselines written: lift" in changes


def test_only_what_failed_is_red() -> None:
    verdicts = [
        finding(id="good"),
        finding(id="known", verdict="does not hold", recorded="does not hold"),
        finding(id="open", verdict="undecided", recorded="undecided"),
        finding(id="new", verdict="undecided", recorded=None),
    ]
    report = page_of(*verdicts, drift("inter", 0.5, passed=True))
    assert sections(report) == ["overview", "m/d"]
    assert "Nothing failed." in report.text
    assert {state for state, _ in statuses(report)} == {"good", "plain"}
    words = {text for _, text in statuses(report)}
    assert {"holds", "does not hold, as recorded", "undecided, as recorded"} <= words
    assert "undecided; nothing is recorded" in words


def test_a_verdict_accepted_as_changed_is_a_change() -> None:
    report = page_of(finding(verdict="does not hold", recorded="holds"))
    assert ("changed", "does not hold; recorded: holds") in statuses(report)
    assert "four_phases: holds → does not hold" in report.text


def test_the_overview_has_the_claims() -> None:
    report = page_of(finding(claim="Similarity rises and falls."))
    overview = report.text[report.text.index('id="overview"') :]
    assert "Similarity rises and falls." in overview[: overview.index("</table>")]


def test_cases_that_failed_for_another_reason_are_listed_by_message() -> None:
    failures = [Failure(f"test_{k}[m-d]", "--model m: no such model") for k in range(3)]
    failures.append(Failure("test_drift[m-d-inter]", "drifted", [drift("inter", 3.0, passed=False)]))
    report = page_of(drift("inter", 3.0, passed=False), failures=failures)
    assert report.text.count("--model m: no such model") == 1
    assert "3 cases" in report.text
    assert "test_drift[m-d-inter]" not in report.text


def test_an_interrupted_run_says_so() -> None:
    report = page_of(measurement(), interrupted="interrupted; 2 of 4 images are measured")
    assert "interrupted; 2 of 4 images are measured" in report.text
    assert "stopped before its end" not in page_of(measurement()).text
