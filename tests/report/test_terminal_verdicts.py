"""Findings and drift in the terminal, from plain data."""

from __future__ import annotations

import pytest
from rich.console import Group

from phasebench.judge.findings.finding import FINDINGS, LAST
from phasebench.report.entries import DriftEntry, FindingEntry
from phasebench.report.results import Results
from phasebench.report.terminal import render
from phasebench.report.terminal_verdicts import drift_rows, finding_rows
from tests.support.entries import CONTROL, drift, finding


def findings_text(*entries: FindingEntry, full: bool = False, width: int = 80) -> str:
    """The findings as the terminal shows them, in the order of tables."""
    ordered = Results.of(entries).findings("m/d")
    return render(Group(*finding_rows(ordered, full=full)), width, colour=False)


def drift_text(*entries: DriftEntry, full: bool = False) -> str:
    """Drift as the terminal shows it, worst first."""
    ordered = Results.of(entries).drift("m/d")
    return render(Group(*drift_rows(ordered, full=full)), 80, colour=False)


def test_a_finding_has_verdict_interval_and_recorded_verdict() -> None:
    head, row, detail = findings_text(finding()).splitlines()
    assert head.split("  ")[0].strip().startswith("finding")
    assert row.split() == ["four_phases", "holds", "0.0213", "[0.01,", "0.031]", "same"]
    assert [head.index(word) for word in ("verdict", "value", "recorded")] == [
        row.index(word) for word in ("holds", "0.0213", "same")
    ]
    assert detail == "  rise, fall, rise, fall"


@pytest.mark.parametrize(("recorded", "word"), [("holds", "same"), ("undecided", "undecided"), (None, "-")])
def test_the_recorded_verdict_is_shown_where_it_differs(recorded: str | None, word: str) -> None:
    row = findings_text(finding(recorded=recorded)).splitlines()[1]
    assert row.split()[-1] == word


def test_the_longest_words_fit_into_80_columns() -> None:
    numbers = {"value": -0.0612, "low": -0.0632, "high": -0.0593}
    entry = finding(id="attention_rise_and_drop", verdict="does not hold", recorded="undecided", **numbers)
    (_, row, _) = findings_text(entry).splitlines()
    assert row.endswith("undecided")


def test_a_long_detail_is_cut_to_one_line_and_under_v_shown_in_full() -> None:
    entry = finding(detail="word " * 40)
    assert len(findings_text(entry).splitlines()) == 3
    assert "…" in findings_text(entry)
    assert findings_text(entry, full=True).count("word") == 40


@pytest.mark.parametrize("differs", [False, None, True])
def test_a_control_that_does_not_differ_is_always_named(differs: bool | None) -> None:
    text = findings_text(finding(controls=[{**CONTROL, "differs": differs}, {**CONTROL, "control": "text"}]))
    assert ("not distinguishable from control: blank\n" in text) is (differs is False)
    assert "text" not in text


@pytest.mark.parametrize(
    ("differs", "words"),
    [(False, "not distinguishable: 0.0113"), (None, "undecided: 0.0113"), (True, "differs by 0.0113")],
)
def test_under_v_every_control_is_shown_with_numbers(differs: bool | None, words: str) -> None:
    entry = finding(controls=[{**CONTROL, "differs": differs}])
    assert f"  control blank: 0.01 (rise), {words} [0.005, 0.02]\n" in findings_text(entry, full=True)


def test_the_images_needed_are_shown_and_under_v_the_margin() -> None:
    entry = finding(verdict="undecided", images_needed=240, margin=-0.3125)
    assert "  about 240 images would decide\n" in findings_text(entry)
    assert "margin" not in findings_text(entry)
    assert "  margin: -0.312\n" in findings_text(entry, full=True)
    assert "would decide" not in findings_text(finding(images_needed=None), full=True)


def test_findings_are_in_the_papers_order_and_the_users_own_behind_them() -> None:
    paper = [
        finding(id=name, order=FINDINGS[name].order) for name in ("lens_recall_peak", "inter_below_intra")
    ]
    text = findings_text(finding(id="a_of_ours", order=LAST), *paper)
    assert text.index("inter_below_intra") < text.index("lens_recall_peak") < text.index("a_of_ours")


def test_a_finding_without_a_value_has_a_dash() -> None:
    row = findings_text(finding(value=None, low=None, high=None)).splitlines()[1]
    assert row.split() == ["four_phases", "holds", "-", "same"]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("full", [True, False])
def test_nothing_is_wider_than_the_terminal(width: int, full: bool) -> None:
    text = findings_text(finding(detail="word " * 60), full=full, width=width)
    assert all(len(line) <= width for line in text.splitlines())


def test_text_without_colour_has_no_escapes() -> None:
    group = Group(*finding_rows([finding()], full=False))
    assert "\x1b[32mholds" in render(group, 80, colour=True)
    assert "\x1b[" not in render(group, 80, colour=False)


def test_a_failed_finding_is_bold_and_red() -> None:
    group = Group(*finding_rows([finding(passed=False), finding(id="other")], full=False))
    assert render(group, 80, colour=True).count("\x1b[1;31m") == 1


def test_without_drift_the_nearest_curve_is_named() -> None:
    text = drift_text(drift("inter", 0.2, passed=True), drift("lift", 0.9, passed=True))
    assert text == "no drift in 2 curves; nearest: lift, layer 7: 0.90 x allowed\n"


def test_the_number_of_compared_images_is_shown_where_it_is_not_all() -> None:
    text = drift_text(drift("inter", 0.2, passed=True, shared=1, images=60), drift("lift", 0.1, passed=True))
    assert text.splitlines()[1:] == ["compared on 1 of 60 images: those that both have"]


def test_the_line_for_no_drift_fits_into_80_columns() -> None:
    worst = drift("intra_visual_nosink", 0.00053, passed=True, layer=28)
    text = drift_text(*[drift("inter", 0.0, passed=True)] * 16, worst)
    assert len(text.splitlines()) == 1


def test_baselines_that_were_written_are_named() -> None:
    first = drift("lift", None, passed=True, updated=True, layer=None, shared=0)
    text = drift_text(first, drift("inter", 0.2, passed=True, shared=0))
    assert text.splitlines() == [
        "baselines written: lift",
        "no drift in 1 curves; nearest: inter, layer 7: 0.20 x allowed",
        "compared with other images or captions, within the sampling error: all",
    ]
    text = drift_text(drift("lift", 0.1, passed=True, shared=0), drift("inter", 0.2, passed=True))
    assert text.splitlines()[1:] == [
        "compared with other images or captions, within the sampling error: lift"
    ]


def test_curves_that_drifted_are_listed_worst_first() -> None:
    text = drift_text(
        drift("inter", 3.0, passed=False), drift("lift", None, passed=False, measured=None, effect=None),
        drift("total", 40.0, passed=False), drift("recall", 0.1, passed=True),
    )  # fmt: skip
    assert text.startswith("drift in 3 of 4 curves, worst first\n")
    rows = [line.split() for line in text.splitlines()[2:]]
    assert rows == [
        ["lift", "7", "0.5", "-", "-", "-"],
        ["total", "7", "0.5", "0.6", "1.5", "40"],
        ["inter", "7", "0.5", "0.6", "1.5", "3"],
    ]


def test_of_many_curves_that_drifted_the_worst_are_shown_and_under_v_all() -> None:
    entries = [
        drift(f"c{number}", 2.0 + number, passed=False, lines=[f"details of {number}"]) for number in range(9)
    ]
    brief, whole = drift_text(*entries), drift_text(*entries, drift("unchanged", 0.5, passed=True), full=True)
    assert "c3 " in brief
    assert "c2 " not in brief
    assert brief.endswith("... and 3 more; -v shows all\n")
    assert "details" not in brief
    assert all(f"c{number} " in whole and f"  details of {number}\n" in whole for number in range(9))
    assert "unchanged" in whole
    assert "more" not in whole


def test_a_likely_cause_is_shown_once() -> None:
    cause = {"cause": "from layer 12 on: block 12"}
    text = drift_text(*(drift(name, 9.0, passed=False, **cause) for name in ("a", "b")))
    assert text.count("likely cause: from layer 12 on: block 12\n") == 1


def test_without_entries_nothing_is_shown() -> None:
    assert list(drift_rows([], full=True)) == []
    assert list(finding_rows([], full=True)) == []
