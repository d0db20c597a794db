"""Measurements and verdicts as entries: curves by columns, seconds per image, a finding with its verdict."""

from __future__ import annotations

import math

from phasebench.judge.drift.difference import compare
from phasebench.judge.drift.record import record
from phasebench.judge.findings.finding import Evidence, Finding
from phasebench.judge.findings.verdict import Outcome, Verdict
from phasebench.report.conversion import curve_columns, drift_entry, finding_entry, timing
from tests.support.synthetic import FOUR, TOLERANCES, curves


def test_a_curve_by_columns() -> None:
    columns = curve_columns(curves({"inter": FOUR}, noise=0.01), "total")
    assert columns["mean"][0] is None
    assert columns["n"][:2] == [0, 60]
    assert len(columns["layer"]) == 41


def test_the_overhead_is_of_the_same_images_without_the_first() -> None:
    seconds = timing([9.0, 2.0, 4.0, 100.0], [(9.0, 9.0), (2.0, 1.0), (4.0, 2.0)])
    assert seconds["ratio"] == 2.0
    assert seconds["total"] == 115.0
    assert timing([1.0], [(1.0, 1.0)])["ratio"] is None


def test_without_a_measured_image_there_are_no_seconds() -> None:
    assert timing([], []) == {"pass": None, "plain": None, "ratio": None, "total": None}


def judge(_: Evidence) -> Verdict:
    data = {"phases": {"layers": [3]}}
    return Verdict(Outcome.HOLDS, 0.5, 0.25, math.inf, "in words", data=data, margin=math.nan)


def test_a_finding_with_its_verdict_the_recorded_verdict_and_its_data() -> None:
    finding = Finding("ours", "It rises.", "section 3.2", judge, order=7)
    entry = finding_entry(finding, judge(Evidence(curves({"inter": FOUR}), {})), "undecided")
    assert (entry.id, entry.claim, entry.source, entry.order) == ("ours", "It rises.", "section 3.2", 7)
    assert (entry.verdict, entry.recorded, entry.detail) == ("holds", "undecided", "in words")
    assert (entry.value, entry.low, entry.high, entry.margin) == (0.5, 0.25, None, None)
    assert entry.data == {"phases": {"layers": [3]}}
    assert entry.passed is None


def test_a_drift_has_the_difference_and_the_allowed_difference_of_every_layer() -> None:
    before, after = (record(curves({"share_text": FOUR + shift}), "share_text") for shift in (0.0, 0.25))
    by_layer = drift_entry("share_text", compare(before, after, TOLERANCES), None).by_layer
    assert by_layer is not None
    assert by_layer["layer"] == list(range(41))
    assert by_layer["difference"] == [None, *[0.25] * 40]
    allowed = by_layer["allowed"]
    assert allowed[0] is None
    assert all(value is not None and 0 < value < 0.25 for value in allowed[1:])


def test_records_with_different_numbers_of_layers_have_no_difference_by_layer() -> None:
    before, after = (record(curves({"inter": FOUR[:last]}), "inter") for last in (41, 31))
    assert drift_entry("inter", compare(before, after, TOLERANCES), None).by_layer is None
