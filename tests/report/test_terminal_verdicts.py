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


def test_a_finding_has_both_verdicts_and_below_its_number_with_interval_and_bound() -> None:
    entry = finding(verdict="undecided", recorded="holds")
    head, row, number, detail = findings_text(entry).splitlines()
    assert head.split() == ["finding", "verdict", "recorded"]
    assert row.split() == ["four_phases", "undecided", "holds"]
    assert [head.index(word) for word in ("verdict", "recorded")] == [
        row.index(word) for word in ("undecided", "holds")
    ]
    assert number == "  height of phase 4: 0.0213 [0.01, 0.031] (must be above 0.001)"
    assert detail == "  rise, fall, rise, fall"
    assert len(findings_text(finding()).splitlines()) == 3


@pytest.mark.parametrize(("recorded", "word"), [("holds", "holds"), ("", "unreadable"), (None, "-")])
def test_the_recorded_verdict_is_named_even_if_it_is_the_same(recorded: str | None, word: str) -> None:
    row = findings_text(finding(recorded=recorded)).splitlines()[1]
    assert row.split()[-1] == word


def test_the_longest_words_fit_into_80_columns() -> None:
    entry = finding(id="attention_rise_and_drop", verdict="does not hold", recorded="undecided")
    (_, row, _, _) = findings_text(entry).splitlines()
    assert row.endswith("undecided")


def test_a_long_number_is_not_cut() -> None:
    entry = finding(line=f"{'a subject of many words ' * 4}: 0.02 (must be above 0)", detail="")
    assert findings_text(entry).rstrip().endswith("(must be above 0)")


def test_a_long_detail_is_cut_to_one_line_and_under_v_shown_in_full() -> None:
    entry = finding(verdict="undecided", detail="word " * 40)
    assert len(findings_text(entry).splitlines()) == 4
    assert "…" in findings_text(entry)
    assert findings_text(entry, full=True).count("word") == 40


@pytest.mark.parametrize("differs", [False, None, True])
def test_a_control_that_does_not_differ_is_always_named(differs: bool | None) -> None:
    text = findings_text(finding(controls=[{**CONTROL, "differs": differs}, {**CONTROL, "control": "text"}]))
    assert ("not distinguishable from control: blank\n" in text) is (differs is False)
    assert "text" not in text


def test_a_control_of_another_number_names_the_number() -> None:
    entry = finding(controls=[{**CONTROL, "differs": False, "quantity": "mean ratio"}])
    assert "  not distinguishable from control: blank (mean ratio)\n" in findings_text(entry)
    assert "  control blank, mean ratio: 0.01 (rise), not dist" in findings_text(entry, full=True)


def test_the_claim_is_shown_under_v() -> None:
    entry = finding(claim="It rises.")
    assert "  claim: It rises.\n" in findings_text(entry, full=True)
    assert "It rises." not in findings_text(entry)


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
    assert "  margin: -0.312 standard errors\n" in findings_text(entry, full=True)
    assert "would decide" not in findings_text(finding(images_needed=None), full=True)


def test_findings_are_in_the_papers_order_and_the_users_own_behind_them() -> None:
    paper = [
        finding(id=name, order=FINDINGS[name].order) for name in ("lens_recall_peak", "inter_below_intra")
    ]
    text = findings_text(finding(id="a_of_ours", order=LAST), *paper)
    assert text.index("inter_below_intra") < text.index("lens_recall_peak") < text.index("a_of_ours")


def test_a_finding_without_a_number_has_its_reason() -> None:
    _, *lines = findings_text(finding(line="", detail="no phase IV")).splitlines()
    assert [line.split() for line in lines] == [["four_phases", "holds", "holds"], ["no", "phase", "IV"]]


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


def test_other_images_are_named() -> None:
    first = drift("lift", None, passed=True, updated=True, layer=None, shared=0)
    text = drift_text(first, drift("inter", 0.2, passed=True, shared=0))
    assert text.splitlines() == [
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
    assert all(
        f"c{number} " in whole and f"c{number}:\n  details of {number}\n" in whole for number in range(9)
    )
    assert "unchanged" in whole
    assert "more" not in whole


def test_a_likely_cause_is_shown_once() -> None:
    cause = {"cause": "from layer 12 on: block 12"}
    text = drift_text(*(drift(name, 9.0, passed=False, **cause) for name in ("a", "b")))
    assert text.count("likely cause: from layer 12 on: block 12\n") == 1


def test_without_entries_nothing_is_shown() -> None:
    assert list(drift_rows([], full=True)) == []
    assert list(finding_rows([], full=True)) == []
