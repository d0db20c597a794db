"""The decision on a measured record and the recorded one, as a table."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.baseline_folders import Folders
from phasebench.judge.drift.decision import Action, Reason, decide
from phasebench.judge.drift.record import Record
from phasebench.judge.drift.reference import Reference
from phasebench.settings import REMEDIES, BaselineMode
from tests.support.synthetic import TOLERANCES, recorded

COMPARE = BaselineMode()
STRICT = BaselineMode(strict=True)
CREATE = BaselineMode(create=True)
UPDATE = BaselineMode(create=True, update=True)
REFERENCE = Reference(Folders(Path("own"), Path("packaged")), TOLERANCES)


def curve(images: int = 8, shift: float = 0.0, data: str = "these", dtype: str = "float32") -> Record:
    """A curve's record of so many images, with layer 5 of each shifted."""
    record = copy.deepcopy(recorded(images=images))
    for row in record["images"].values():
        row[5] += shift
    record["layers"][5]["mean"] += shift
    record["provenance"] |= {"images": images, "data": data, "dtype": dtype}
    return record


def verdict(outcome: str, images: int = 8, data: str = "these") -> Record:
    """A verdict's record."""
    return {"verdict": outcome, "detail": "a height", "provenance": {"images": images, "data": data}}


UNREADABLE = InputError("baseline x.json is not JSON", remedy="update")
NO_RECORD: list[tuple[Any, ...]] = [
    (None, curve(), COMPARE, Action.SKIP, Reason.NOT_RECORDED),
    (None, curve(), STRICT, Action.FAIL, Reason.NOT_RECORDED),
    (None, curve(), CREATE, Action.WRITE, Reason.NOT_RECORDED),
    (None, curve(), UPDATE, Action.WRITE, Reason.NOT_RECORDED),
    (None, verdict("holds"), COMPARE, Action.ACCEPT, Reason.CLAIM),
    (None, verdict("undecided"), COMPARE, Action.FAIL, Reason.CLAIM),
    (None, verdict("does not hold"), COMPARE, Action.FAIL, Reason.CLAIM),
    (None, verdict("holds"), STRICT, Action.FAIL, Reason.NOT_RECORDED),
    (None, verdict("does not hold"), CREATE, Action.WRITE, Reason.NOT_RECORDED),
    (UNREADABLE, curve(), COMPARE, Action.FAIL, Reason.UNREADABLE),
    (UNREADABLE, curve(), CREATE, Action.FAIL, Reason.UNREADABLE),
    (UNREADABLE, verdict("holds"), UPDATE, Action.WRITE, Reason.UNREADABLE),
]
VERDICTS: list[tuple[Any, ...]] = [
    (verdict("holds"), verdict("holds"), COMPARE, Action.ACCEPT, Reason.AGREES),
    (verdict("holds"), verdict("does not hold"), COMPARE, Action.FAIL, Reason.DIFFERS),
    (verdict("holds"), verdict("does not hold"), CREATE, Action.FAIL, Reason.DIFFERS),
    (verdict("holds"), verdict("does not hold"), UPDATE, Action.WRITE, Reason.DIFFERS),
    (verdict("holds"), verdict("undecided"), COMPARE, Action.FAIL, Reason.DIFFERS),
    (verdict("holds"), verdict("undecided", 4), COMPARE, Action.SKIP, Reason.FEWER_IMAGES),
    (verdict("holds"), verdict("undecided", 4), STRICT, Action.FAIL, Reason.FEWER_IMAGES),
    (verdict("holds"), verdict("undecided", 4), UPDATE, Action.SKIP, Reason.FEWER_IMAGES),
    (verdict("holds"), verdict("does not hold", 4), COMPARE, Action.FAIL, Reason.DIFFERS),
    (verdict("holds"), verdict("does not hold", 4), UPDATE, Action.REFUSE, Reason.FEWER_IMAGES),
    (verdict("holds"), verdict("holds", 4, "part"), UPDATE, Action.ACCEPT, Reason.AGREES),
    (verdict("holds"), verdict("holds", 9, "more"), UPDATE, Action.WRITE, Reason.OTHER_IMAGES),
    (verdict("holds"), verdict("holds", 9, "more"), COMPARE, Action.ACCEPT, Reason.AGREES),
]
CURVES: list[tuple[Any, ...]] = [
    (curve(), curve(), COMPARE, Action.ACCEPT, Reason.AGREES),
    (curve(), curve(shift=0.1), COMPARE, Action.FAIL, Reason.DIFFERS),
    (curve(), curve(shift=0.1), STRICT, Action.FAIL, Reason.DIFFERS),
    (curve(), curve(shift=0.1), CREATE, Action.FAIL, Reason.DIFFERS),
    (curve(), curve(shift=0.1), UPDATE, Action.WRITE, Reason.DIFFERS),
    (curve(), curve(), UPDATE, Action.ACCEPT, Reason.AGREES),
    (curve(), curve(data="others"), UPDATE, Action.WRITE, Reason.OTHER_IMAGES),
    (curve(), curve(data="others"), COMPARE, Action.ACCEPT, Reason.AGREES),
    (curve(8), curve(4, shift=0.1, data="part"), UPDATE, Action.REFUSE, Reason.FEWER_IMAGES),
    (curve(8), curve(4, data="part"), UPDATE, Action.ACCEPT, Reason.AGREES),
    (curve(dtype="bfloat16"), curve(dtype="float16"), COMPARE, Action.FAIL, Reason.UNREADABLE),
    (curve(dtype="bfloat16"), curve(dtype="float16"), UPDATE, Action.WRITE, Reason.UNREADABLE),
    (curve(8, dtype="bfloat16"), curve(4, dtype="float16"), UPDATE, Action.REFUSE, Reason.FEWER_IMAGES),
    (verdict("holds"), curve(), COMPARE, Action.FAIL, Reason.UNREADABLE),
    (verdict("holds"), curve(), UPDATE, Action.WRITE, Reason.UNREADABLE),
]


@pytest.mark.parametrize(("before", "measured", "mode", "action", "reason"), [*NO_RECORD, *VERDICTS, *CURVES])
def test_the_decision(
    before: Any, measured: Record, mode: BaselineMode, action: Action, reason: Reason
) -> None:
    decision = decide(before, measured, mode, REFERENCE)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.remedy in ("", *REMEDIES)
    if action is not Action.ACCEPT:
        assert decision.lines


def test_a_changed_verdict_says_both_outcomes_number_and_bound_in_its_first_line() -> None:
    measured = {**verdict("does not hold"), "line": "drop: -0.2 (must be above 0)"}
    changed = decide(verdict("holds"), measured, COMPARE, REFERENCE)
    assert changed.lines == (
        "recorded holds, now does not hold: drop: -0.2 (must be above 0)", "a height",
    )  # fmt: skip
    assert decide(None, verdict("undecided"), COMPARE, REFERENCE).lines == ("undecided: a height",)


@pytest.mark.parametrize(("before", "now", "remedy"), [(2, 2, "images"), (2, 3, "more_recorded")])
@pytest.mark.parametrize(("mode", "action"), [(COMPARE, Action.SKIP), (STRICT, Action.FAIL)])
def test_too_few_other_images_cannot_be_compared(
    before: int, now: int, remedy: str, mode: BaselineMode, action: Action
) -> None:
    measured = curve(now, data="others")
    measured["images"] = {f"other {key}": row for key, row in measured["images"].items()}
    decision = decide(curve(before), measured, mode, REFERENCE)
    assert (decision.action, decision.reason) == (action, Reason.FEW_ITEMS)
    assert decision.remedy == remedy


def test_deciding_changes_nothing() -> None:
    before, measured = curve(), curve(shift=0.1)
    copies = copy.deepcopy((before, measured))
    decide(before, measured, UPDATE, REFERENCE)
    assert (before, measured) == copies
