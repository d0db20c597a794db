"""What was compared with what, and what was written, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.report.compared import one_checkpoint_two_prompts, two_sides, written
from phasebench.report.entries import Entry
from phasebench.report.results import Results
from tests.support.entries import PROVENANCE, baseline, measurement

FOLDER = "/project/baselines/m/d"


def rows(*entries: Entry) -> list[tuple[str, str]]:
    return list(two_sides(Results.of(entries), "m/d"))


def lines(*entries: Entry, full: bool = False) -> list[str]:
    return list(written(Results.of(entries), "m/d", full=full))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, f"m, the same checkpoint and prompt, in {FOLDER}"),
        ({"baseline": "t", "baseline_checkpoint": "12"}, f"t, checkpoint 12, the same prompt, in {FOLDER}"),
        (
            {"baseline_prompt": "Hi <image>"},
            f"m, the same checkpoint, in {FOLDER}; the prompts differ, recorded: 'Hi <image>'",
        ),
        ({"baseline_checkpoint": "", "baseline_prompt": ""}, f"m, in {FOLDER}, cannot be read"),
    ],
)
def test_a_baseline_has_name_checkpoint_prompt_and_folder(changes: dict[str, str], text: str) -> None:
    assert rows(measurement(), baseline("inter", **changes)) == [
        ("prompt", "'USER: <image>'"),
        ("baseline", text),
    ]


def test_several_recordings_are_several_rows_with_their_numbers() -> None:
    packaged = baseline("verdicts/four_phases", baseline_folder="/packaged/m/d")
    both = rows(baseline("inter"), baseline("lift"), packaged)
    assert [text.rpartition(" (")[2] for _, text in both] == ["2 curves)", "1 verdict)"]


def test_without_a_baseline_there_is_no_row() -> None:
    assert rows(baseline("inter", baseline_folder="")) == []


def test_a_folder_in_the_current_one_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((_, text),) = rows(baseline("inter", baseline_folder=str(tmp_path / "baselines" / "m" / "d")))
    assert text.endswith("in baselines/m/d")


def test_what_was_written_is_counted_and_under_v_named() -> None:
    entries = [baseline(name, written=FOLDER) for name in ("inter", "lift", "verdicts/four_phases")]
    assert lines(*entries, baseline("total")) == [f"2 curves and 1 verdict written to {FOLDER}"]
    assert lines(*entries, full=True) == [
        f"2 curves and 1 verdict written to {FOLDER}: inter, lift, verdicts/four_phases"
    ]
    assert lines(baseline("inter")) == []


def test_what_could_not_be_written_is_always_named() -> None:
    entry = baseline("lift", unwritten=FOLDER, error="No space left on device")
    assert lines(baseline("inter", written=FOLDER), entry) == [
        f"1 curve written to {FOLDER}",
        f"1 curve not written to {FOLDER} (No space left on device); what it has is unchanged: lift",
    ]


def test_two_names_of_one_checkpoint_with_different_prompts_are_noted() -> None:
    other = measurement(run="n/d", provenance={**PROVENANCE, "model": "n", "prompt": "Hi"})
    (line,) = one_checkpoint_two_prompts({"m/d": measurement(), "m/e": measurement(), "n/d": other})
    assert line == (
        f"one checkpoint ({PROVENANCE['checkpoint']}), but the prompts differ: m: 'USER: <image>'; n: 'Hi'"
    )
    assert list(one_checkpoint_two_prompts({"m/d": measurement(), "n/d": measurement()})) == []
