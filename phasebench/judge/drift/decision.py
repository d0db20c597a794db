"""What to do with a measured record, given the recorded one: accept, write, refuse, skip or fail.

Only ``decide`` decides this, for curves and for verdicts. It reads no file and writes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from phasebench.errors import InputError
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.record import Record
from phasebench.judge.drift.reference import Reference
from phasebench.judge.statistics import MIN_ITEMS
from phasebench.settings import BaselineMode

HOLDS, UNDECIDED = "holds", "undecided"
"""Outcomes as they are written in a verdict's record."""


class Action(Enum):
    """What to do with a measured record."""

    ACCEPT = "accept"
    """It agrees with the recorded one, or is fine without one."""
    WRITE = "write"
    """It is to be recorded."""
    REFUSE = "refuse"
    """It differs but must not be recorded: it rests on fewer images."""
    SKIP = "skip"
    """There is nothing to compare it with."""
    FAIL = "fail"
    """It differs, or nothing can be compared and that is not allowed."""


class Reason(Enum):
    """Why a record is accepted, written, refused, skipped or failed."""

    AGREES = "agrees with its baseline"
    DIFFERS = "differs from its baseline"
    OTHER_IMAGES = "rests on other images than its baseline"
    FEWER_IMAGES = "rests on fewer images than its baseline"
    FEW_ITEMS = "has too few items to be compared with others"
    UNREADABLE = "its baseline cannot be read or compared"
    NOT_RECORDED = "has no baseline"
    CLAIM = "is judged by itself: there is no baseline"


@dataclass(frozen=True)
class Decision:
    """What to do with a measured record, and why.

    Attributes:
        action: what to do.
        reason: why, as one of a few kinds.
        lines: the reason in words, for a difference its worst layers; no line names model or dataset.
        remedy: the setting that would help, a key of ``settings.REMEDIES``; empty if none would.
        difference: how two records of a curve differ; None where they were not compared.
    """

    action: Action
    reason: Reason
    lines: tuple[str, ...] = ()
    remedy: str = ""
    difference: Difference | None = None


def decide(
    recorded: Record | InputError | None, measured: Record, mode: BaselineMode, reference: Reference
) -> Decision:
    """Decide on the record of a curve or a verdict.

    Args:
        recorded: the recorded one; the error if its file cannot be read; None if there is none.
        measured: the record that would be written.
        mode: what the run may do with baselines.
        reference: the baselines that the run is compared with, and its tolerances.
    """
    if recorded is None:
        return _without_record(measured, mode)
    if isinstance(recorded, InputError):
        action = Action.WRITE if mode.update else Action.FAIL
        return Decision(action, Reason.UNREADABLE, (str(recorded),), recorded.remedy)
    if "verdict" in measured:
        return _decide_verdict(recorded, measured, mode)
    return _decide_curve(recorded, measured, mode, reference)


def _without_record(measured: Record, mode: BaselineMode) -> Decision:
    if mode.create:
        return Decision(Action.WRITE, Reason.NOT_RECORDED, ("first recorded",))
    if mode.strict:
        return Decision(Action.FAIL, Reason.NOT_RECORDED, ("no baseline",), "record")
    if "verdict" not in measured:
        return Decision(Action.SKIP, Reason.NOT_RECORDED, ("nothing is recorded yet",), "record")
    action = Action.ACCEPT if measured["verdict"] == HOLDS else Action.FAIL
    return Decision(action, Reason.CLAIM, _with_number(measured["verdict"], measured))


def _decide_verdict(recorded: Record, measured: Record, mode: BaselineMode) -> Decision:
    agrees = recorded.get("verdict") == measured["verdict"]
    if not agrees and measured["verdict"] == UNDECIDED and fewer_images(recorded, measured):
        action = Action.FAIL if mode.strict else Action.SKIP  # nothing shows a change
        return Decision(action, Reason.FEWER_IMAGES, (f"undecided, {image_counts(recorded, measured)}",))
    lines = () if agrees else verdict_lines(recorded, measured)
    return _final_decision(
        recorded, measured, mode, Decision(Action.ACCEPT, Reason.AGREES, lines), agrees=agrees
    )


def _decide_curve(recorded: Record, measured: Record, mode: BaselineMode, reference: Reference) -> Decision:
    try:
        difference = reference.compare(recorded, measured)
    except InputError as error:
        failed = Decision(Action.FAIL, Reason.UNREADABLE, (str(error),), error.remedy)
        return _final_decision(recorded, measured, mode, failed, agrees=False)
    if not difference.decidable and not mode.create:
        # More images help on the side that has fewer.
        remedy = "more_recorded" if len(recorded["images"]) < len(measured["images"]) else "images"
        lines = (f"fewer than {MIN_ITEMS} items cannot be compared with others",)
        action = Action.FAIL if mode.strict else Action.SKIP
        return Decision(action, Reason.FEW_ITEMS, lines, remedy, difference)
    compared = Decision(Action.ACCEPT, Reason.AGREES, tuple(difference.describe()), "", difference)
    return _final_decision(recorded, measured, mode, compared, agrees=not difference.drifted)


def _final_decision(
    recorded: Record, measured: Record, mode: BaselineMode, compared: Decision, *, agrees: bool
) -> Decision:
    """The decision on two records that were compared, by what the run may write."""
    lines, remedy, difference = compared.lines, compared.remedy, compared.difference
    reason = compared.reason if compared.reason is Reason.UNREADABLE else Reason.DIFFERS
    fewer = fewer_images(recorded, measured)
    if mode.update and not fewer and _data(recorded) != _data(measured):
        lines = lines or (f"{image_counts(recorded, measured)} that are not all the same",)
        return Decision(Action.WRITE, Reason.OTHER_IMAGES if agrees else reason, lines, "", difference)
    if agrees:
        return compared
    if not mode.update:
        return Decision(Action.FAIL, reason, lines, remedy, difference)
    if fewer:
        return Decision(Action.REFUSE, Reason.FEWER_IMAGES, lines, "images", difference)
    return Decision(Action.WRITE, reason, lines, remedy, difference)


def verdict_lines(recorded: Record, measured: Record) -> tuple[str, ...]:
    """Both verdicts, and the numbers of images if they differ, because fewer images decide less."""
    lines = [*_with_number(f"recorded {recorded.get('verdict')}, now {measured['verdict']}", measured)]
    if _images(recorded) and _images(recorded) != _images(measured):
        needed = measured.get("images_needed")
        decides = f"; about {needed} would decide" if needed else ""
        lines.append(f"{image_counts(recorded, measured)}{decides}")
    return tuple(lines)


def _with_number(outcome: str, measured: Record) -> tuple[str, ...]:
    """The outcome with the number and its bound in a line, then the details; one line without a number."""
    texts = [text for text in (measured.get("line"), measured["detail"]) if text]
    return (": ".join([outcome, *texts[:1]]), *texts[1:])


def fewer_images(recorded: Record, measured: Record) -> bool:
    """Whether a record rests on fewer images than the recorded one."""
    return _images(measured) < _images(recorded)


def image_counts(recorded: Record, measured: Record) -> str:
    """``recorded on 60 images, measured on 8``."""
    return f"recorded on {_images(recorded)} images, measured on {_images(measured)}"


def _images(record: Record) -> int:
    return int(record.get("provenance", {}).get("images", 0))


def _data(record: Record) -> object:
    """The digest of the images and captions that a record rests on."""
    return record.get("provenance", {}).get("data")
