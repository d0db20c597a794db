"""Entries: each kind survives the way to another process, and shows in files what it should and no more."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from phasebench.report.entries import (
    DriftEntry,
    Entry,
    FindingEntry,
    MeasurementEntry,
    TimingEntry,
    UncomparedEntry,
)
from phasebench.report.entry_forms import KINDS, as_plain, from_plain, junit_properties, reported
from tests.support.entries import COLUMNS, PHASES, baseline, drift, finding, measurement, own_case, timing

ENTRIES: list[Entry] = [
    measurement(
        heatmap=[[0.5, None]], pictures={"a": {"path": "a.png", "captions": ["c"], "references": []}}
    ),
    finding(claim="It rises.", source="Fig. 1", order=2, data={"phases": PHASES}),
    drift("inter", 1.5, passed=False, lines=["layer 7"], baseline=COLUMNS, cause="block 3"),
    timing("pass", 0.66, 0.6),
    own_case("test_mine[x]", passed=True),
    baseline("inter", written="/project/baselines/m/d"),
    UncomparedEntry(run="m/d", name="inter", reason="nothing is recorded yet", remedy="record it"),
]
KIND = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)


def test_the_examples_are_of_every_kind() -> None:
    assert [type(entry) for entry in ENTRIES] == list(KINDS.values())
    assert list(KINDS) == ["measurement", "finding", "drift", "timing", "own", "baseline", "uncompared"]


@KIND
@pytest.mark.parametrize("passed", [True, False, None])
def test_every_kind_survives_the_way_to_another_process(entry: Entry, passed: bool | None) -> None:
    sent = replace(entry, passed=passed)
    received = from_plain(json.loads(json.dumps(as_plain(sent), allow_nan=False)))
    assert type(received) is type(entry)
    assert received == sent
    assert received.failed is (passed is False)


@KIND
def test_the_plain_form_has_every_field_and_the_kind(entry: Entry) -> None:
    plain = as_plain(entry)
    assert plain["kind"] == entry.kind
    assert set(plain) == {"kind", *(field.name for field in fields(entry))}


def test_an_entry_that_was_read_can_be_judged_without_changing_the_one_that_was_sent() -> None:
    sent = finding(passed=None)
    from_plain(as_plain(sent)).passed = False
    assert sent.passed is None


def test_findings_curves_and_cases_of_the_users_own_are_judged() -> None:
    assert [kind for kind, cls in KINDS.items() if cls.judged] == ["finding", "drift", "own"]


def test_drift_without_a_measure_is_the_worst() -> None:
    assert drift("inter", None, passed=False).badness > drift("inter", 1e9, passed=False).badness
    assert drift("inter", 2.0, passed=False).badness == 2.0


@pytest.mark.parametrize("entry", [ENTRIES[0], ENTRIES[6]], ids=lambda entry: entry.kind)
def test_measurements_and_what_was_not_compared_have_no_junit_properties(entry: Entry) -> None:
    assert junit_properties(entry) == []


def test_the_junit_properties_of_a_finding_are_its_single_values_and_those_of_its_data() -> None:
    properties = dict(junit_properties(finding(order=3, margin=None, data={"peak": 33, "phases": PHASES})))
    assert properties["phasebench.run"] == "m/d"
    assert properties["phasebench.id"] == "four_phases"
    assert properties["phasebench.verdict"] == "holds"
    assert properties["phasebench.value"] == 0.0213
    assert properties["phasebench.peak"] == 33
    hidden = ("passed", "order", "controls", "margin", "data", "phases", "kind")
    assert not {f"phasebench.{name}" for name in hidden} & set(properties)


def test_the_junit_properties_of_a_curve_and_of_a_timing() -> None:
    curve = dict(junit_properties(drift("inter", 1.5, passed=False, lines=["layer 7"], baseline=COLUMNS)))
    assert (curve["phasebench.curve"], curve["phasebench.excess"]) == ("inter", 1.5)
    assert not {"phasebench.lines", "phasebench.baseline", "phasebench.passed"} & set(curve)
    assert junit_properties(timing("plain", 0.1, None)) == [
        ("phasebench.run", "m/d"), ("phasebench.route", "plain"), ("phasebench.seconds", 0.1),
    ]  # fmt: skip


def test_the_junit_properties_of_a_baseline_name_both_sides_and_repeat_nothing_of_the_case() -> None:
    properties = dict(junit_properties(baseline("inter", baseline_prompt="another")))
    assert properties["phasebench.prompt"] == "USER: <image>"
    assert properties["phasebench.baseline_prompt"] == "another"
    assert properties["phasebench.baseline_folder"] == "/project/baselines/m/d"
    assert not {"phasebench.run", "phasebench.name"} & set(properties)


@KIND
def test_files_show_every_field_but_the_run_the_outcome_and_the_order(entry: Entry) -> None:
    hidden = {"run", "passed", "order", "data"}
    data = entry.data if isinstance(entry, FindingEntry) else {}
    assert set(reported(entry)) == {field.name for field in fields(entry)} - hidden | set(data)


def test_files_show_the_data_of_a_finding_beside_its_fields() -> None:
    row = reported(finding(data={"phases": PHASES}))
    assert row["phases"] == PHASES
    assert "data" not in row


def test_files_do_not_show_what_is_hidden_from_them() -> None:
    row = reported(drift("inter", 0.5, passed=True), "curve", "baseline")
    assert not {"curve", "baseline"} & set(row)
    assert row["excess"] == 0.5


def test_values_that_have_defaults_are_those_of_a_curve_that_was_not_compared() -> None:
    entry = DriftEntry(curve="inter")
    assert (entry.layer, entry.excess, entry.shared, entry.lines) == (None, None, 0, [])
    assert entry.lines is not DriftEntry(curve="inter").lines


@pytest.mark.parametrize("cls", [MeasurementEntry, FindingEntry, TimingEntry])
def test_an_entry_without_its_values_cannot_be_made(cls: type[Entry]) -> None:
    with pytest.raises(TypeError, match="missing"):
        cls(run="m/d")
