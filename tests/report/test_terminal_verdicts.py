"""Findings and drift in the terminal, from plain data."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Group

from phasebench.report.terminal import render
from phasebench.report.terminal_verdicts import drift as drift_parts
from phasebench.report.terminal_verdicts import findings
from tests.support.entries import CONTROL, drift, finding


def told(*entries: dict[str, Any], full: bool = False, width: int = 80) -> str:
    return render(Group(*findings(entries, full=full)), width, colour=False)


def drifted(*entries: dict[str, Any], full: bool = False) -> str:
    return render(Group(*drift_parts(entries, full=full)), 80, colour=False)


def test_a_finding_is_told_with_verdict_interval_and_recorded_verdict() -> None:
    head, row, detail = told(finding()).splitlines()
    assert head.split("  ")[0].strip().startswith("finding")
    assert row.split() == ["four_phases", "holds", "0.0213", "[0.01,", "0.031]", "same"]
    assert [head.index(word) for word in ("verdict", "value", "recorded")] == [
        row.index(word) for word in ("holds", "0.0213", "same")
    ]
    assert detail == "  rise, fall, rise, fall"


@pytest.mark.parametrize(("recorded", "word"), [("holds", "same"), ("undecided", "undecided"), (None, "-")])
def test_the_recorded_verdict_is_told_where_it_is_another(recorded: str | None, word: str) -> None:
    row = told(finding(recorded=recorded)).splitlines()[1]
    assert row.split()[-1] == word


def test_the_longest_words_fit_into_80_columns() -> None:
    entry = finding(id="attention_rise_and_drop", verdict="does not hold", recorded="undecided")
    (_, row, _) = told(entry | {"value": -0.0612, "low": -0.0632, "high": -0.0593}).splitlines()
    assert row.endswith("undecided")


def test_without_v_a_detail_takes_one_line_with_it_all_of_them() -> None:
    entry = finding(detail="word " * 40)
    assert len(told(entry).splitlines()) == 3
    assert "…" in told(entry)
    assert told(entry, full=True).count("word") == 40


@pytest.mark.parametrize("differs", [False, None, True])
def test_a_control_that_does_not_differ_is_always_named(differs: bool | None) -> None:
    text = told(finding(controls=[{**CONTROL, "differs": differs}, {**CONTROL, "control": "text"}]))
    assert ("not distinguishable from control: blank\n" in text) is (differs is False)
    assert "text" not in text


@pytest.mark.parametrize(
    ("differs", "words"),
    [(False, "not distinguishable: 0.0113"), (None, "undecided: 0.0113"), (True, "differs by 0.0113")],
)
def test_under_v_every_control_is_told_in_numbers(differs: bool | None, words: str) -> None:
    entry = finding(controls=[{**CONTROL, "differs": differs}])
    assert f"  control blank: 0.01 (rise), {words} [0.005, 0.02]\n" in told(entry, full=True)


def test_what_would_decide_is_told_and_under_v_how_far_it_is_from_flipping() -> None:
    entry = finding(verdict="undecided", images_needed=240, margin=-0.3125)
    assert "  about 240 images would decide\n" in told(entry)
    assert "margin" not in told(entry)
    assert "  margin: -0.312\n" in told(entry, full=True)
    assert "would decide" not in told(finding(images_needed=None), full=True)


def test_findings_stand_in_the_papers_order() -> None:
    text = told(finding(id="zz_ours"), finding(id="lens_recall_peak"), finding(id="inter_below_intra"))
    assert text.index("inter_below_intra") < text.index("lens_recall_peak") < text.index("zz_ours")


def test_a_finding_without_a_value_has_none() -> None:
    row = told(finding(value=None, low=None, high=None)).splitlines()[1]
    assert row.split() == ["four_phases", "holds", "-", "same"]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("full", [True, False])
def test_nothing_is_wider_than_the_terminal(width: int, full: bool) -> None:
    text = told(finding(detail="word " * 60), full=full, width=width)
    assert all(len(line) <= width for line in text.splitlines())


def test_colour_only_where_it_is_wanted() -> None:
    group = Group(*findings([finding()], full=False))
    assert "\x1b[32mholds" in render(group, 80, colour=True)
    assert "\x1b[" not in render(group, 80, colour=False)


def test_a_case_that_failed_stands_out() -> None:
    group = Group(*findings([finding(passed=False), finding(id="other")], full=False))
    assert render(group, 80, colour=True).count("\x1b[1;31m") == 1


def test_without_drift_the_nearest_curve_is_told() -> None:
    text = drifted(drift("inter", 0.2, passed=True), drift("lift", 0.9, passed=True))
    assert text == "no drift in 2 curves; nearest: lift, layer 7: 0.90 x allowed\n"


def test_how_many_images_were_compared_is_told_where_it_is_not_all() -> None:
    text = drifted(drift("inter", 0.2, passed=True, shared=1, images=60), drift("lift", 0.1, passed=True))
    assert text.splitlines()[1:] == ["compared on 1 of 60 images: those that both have"]


def test_the_line_for_no_drift_fits_into_80_columns() -> None:
    worst = drift("intra_visual_nosink", 0.00053, passed=True, layer=28)
    text = drifted(*[drift("inter", 0.0, passed=True)] * 16, worst)
    assert len(text.splitlines()) == 1


def test_baselines_that_were_written_are_named() -> None:
    first = drift("lift", None, passed=True, updated=True, layer=None)
    first.pop("shared")
    text = drifted(first, drift("inter", 0.2, passed=True, shared=0))
    assert text.splitlines() == [
        "baselines written: lift",
        "no drift in 1 curves; nearest: inter, layer 7: 0.20 x allowed",
        "compared with other images or captions, within the sampling error: all",
    ]
    some = drifted(drift("lift", 0.1, passed=True, shared=0), drift("inter", 0.2, passed=True))
    assert some.splitlines()[1:] == [
        "compared with other images or captions, within the sampling error: lift"
    ]


def test_drift_stands_worst_first() -> None:
    text = drifted(
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
        drift(f"c{number}", 2.0 + number, passed=False, told=[f"told {number}"]) for number in range(9)
    ]
    brief, whole = drifted(*entries), drifted(*entries, drift("calm", 0.5, passed=True), full=True)
    assert "c3 " in brief
    assert "c2 " not in brief
    assert brief.endswith("... and 3 more; -v shows all\n")
    assert "told" not in brief
    assert all(f"c{number} " in whole and f"  told {number}\n" in whole for number in range(9))
    assert "calm" in whole
    assert "more" not in whole


def test_a_likely_cause_is_told_once() -> None:
    cause = {"cause": "from layer 12 on: block 12"}
    text = drifted(*(drift(name, 9.0, passed=False, **cause) for name in ("a", "b")))
    assert text.count("likely cause: from layer 12 on: block 12\n") == 1


def test_nothing_is_said_of_nothing() -> None:
    assert list(drift_parts([], full=True)) == []
    assert list(findings([], full=True)) == []
