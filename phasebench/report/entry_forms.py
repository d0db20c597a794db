"""The forms of entries: plain data between processes, JUnit properties, and the form of the results file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from phasebench.report.entries import (
    BaselineEntry,
    DriftEntry,
    Entry,
    FindingEntry,
    MeasurementEntry,
    OwnCaseEntry,
    TimingEntry,
    UncomparedEntry,
)

KINDS: dict[str, type[Entry]] = {
    cls.kind: cls
    for cls in (
        MeasurementEntry, FindingEntry, DriftEntry, TimingEntry, OwnCaseEntry, BaselineEntry, UncomparedEntry,
    )
}  # fmt: skip
"""Kind in an entry's plain form -> class of the entry."""
UNREPORTED = ("passed", "order")
"""Fields that are in no output file."""


def as_plain(entry: Entry) -> dict[str, Any]:
    """The entry as a dictionary of plain data that can be sent between processes."""
    return {"kind": entry.kind, **vars(entry)}


def from_plain(plain: Mapping[str, Any]) -> Entry:
    """The entry that ``as_plain`` turned into a dictionary."""
    values = dict(plain)
    return KINDS[values.pop("kind")](**values)


def junit_properties(entry: Entry) -> list[tuple[str, str | int | float]]:
    """The entry's texts and numbers as JUnit properties ``phasebench.<field>``, a finding's data included.

    Empty for entries that are neither judged, nor baselines, nor timings.
    """
    if not (entry.judged or isinstance(entry, BaselineEntry | TimingEntry)):
        return []
    # A baseline's case has another entry with its run and its name.
    hidden = (*UNREPORTED, "run", "name") if isinstance(entry, BaselineEntry) else UNREPORTED
    values = {name: value for name, value in vars(entry).items() if name not in hidden}
    values |= values.pop("data", {})
    return [(f"phasebench.{name}", v) for name, v in values.items() if isinstance(v, str | int | float)]


def reported(entry: Entry, *hidden: str) -> dict[str, Any]:
    """The entry's fields in the form of the results file, without the fields named in ``hidden``."""
    names = (entry_field.name for entry_field in fields(entry))
    values = {name: getattr(entry, name) for name in names if name not in (*UNREPORTED, "run", *hidden)}
    data: dict[str, Any] = values.pop("data", {})
    return values | data
