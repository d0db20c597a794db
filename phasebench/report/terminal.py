"""The tables in the terminal, one screen per model and dataset: measured, findings, drift, curves."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from phasebench.names import FINDINGS
from phasebench.report.results import Entry, Results, badness, short
from phasebench.report.sparkline import sparkline

if TYPE_CHECKING:
    import pytest

SHOWN = ("inter", "intra_visual", "intra_text", "ratio_first5", "total", "recall", "lift")
"""Curves drawn without ``-v``; with it, all of them."""
STYLES = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def tables(results: Results, reporter: pytest.TerminalReporter) -> Iterator[str]:
    """The summary's lines, as wide and as coloured as the reporter's terminal."""
    if reporter.verbosity < 0:
        return
    writer = reporter._tw
    for place in results.places:
        measured = results.measurement(place)
        reporter.write_sep("=", f"phasebench {place}")
        parts = [_findings(results, place, writer.fullwidth), _drift(results, place)]
        if measured is not None:
            parts = [_measured(measured), *parts, _curves(measured, everything=reporter.verbosity > 0)]
        for part in parts:
            if part is not None:
                yield from render(part, writer.fullwidth, colour=writer.hasmarkup).splitlines()


def skips(results: Results) -> Iterator[str]:
    """One line for each dataset of which images were skipped: how many, why, and the first of each kind."""
    entries = (results.measurement(place) for place in results.places)
    measured = {entry["provenance"]["dataset"]: entry for entry in entries if entry is not None}
    for dataset, entry in sorted(measured.items()):
        skipped = entry["skipped"]
        if skipped:
            yield (
                f"{dataset}: {len(skipped)} image{'s' if len(skipped) > 1 else ''} skipped, "
                f"{len(entry['images'])} measured: {', '.join(_kinds(skipped))}"
            )


def _kinds(skipped: list[dict[str, str]]) -> Iterator[str]:
    first = {skip["reason"]: skip["path"] for skip in reversed(skipped)}
    for reason, count in Counter(skip["reason"] for skip in skipped).items():
        yield f"{count} {reason} ({first[reason]}{', ...' if count > 1 else ''})"


def render(part: RenderableType, width: int, *, colour: bool) -> str:
    """rich's rendering as text, without touching the real terminal."""
    console = Console(
        file=StringIO(),
        width=max(width, 60),
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
    )
    console.print(part)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _measured(entry: Entry) -> Text:
    source, timing = entry["provenance"], entry["timing"]
    layout = entry["layout"]
    shape = (
        f"{layout['length']} positions, visual {layout['visual']}"
        if isinstance(layout, dict)
        else "several layouts"
    )
    return Text(
        f"{source['architecture']} {source['checkpoint']}, {source['images']} images, {shape}\n"
        f"{source['dtype']} on {source['device']}, torch {source['torch']}, "
        f"transformers {source['transformers']}\n"
        f"{_took(timing, entry['stored'])}"
    )


def _took(timing: Entry, stored: int) -> str:
    """Seconds of the images that this run measured."""
    kept = f"{stored} images from the store (--fresh measures them again)" if stored else ""
    if timing["total"] is None:
        return kept
    spent = f"{timing['total']:.1f} s: {1e3 * timing['pass']:.0f} ms an image"
    if timing["ratio"]:
        spent += f", {timing['ratio']:.2f} x the plain forward pass ({1e3 * timing['plain']:.0f} ms)"
    return f"{spent}\n{kept}" if kept else spent


def notes(results: Results) -> Iterator[str]:
    """What happened while measuring that changes no number, a line each."""
    for place in results.places:
        for note in (results.measurement(place) or {"notes": ()})["notes"]:
            yield f"{place}: {note}"


def _findings(results: Results, place: str, width: int) -> Text | None:
    """Two or three lines a finding: verdict and number, what the number is, what the controls say."""
    text = Text()
    for entry in sorted(results.of_kind(place, "finding"), key=_paper_order):
        text.append(f"{entry['id']:<24}")
        text.append(f"{entry['verdict']:<14}", style=STYLES[entry["verdict"]])
        text.append(_interval(entry))
        if entry["recorded"] not in (None, entry["verdict"]):
            text.append(f"  recorded: {entry['recorded']}", style="bold")
        text.append("\n")
        for line in (entry["detail"], *map(_control, entry["controls"])):
            text.append("".join(f"{part}\n" for part in _indented(line, width)), style="dim")
    return text if text.plain else None


def _indented(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width - 1, initial_indent="    ", subsequent_indent="      ")


def _control(entry: Entry) -> str:
    """``control blank: 0.12, differs by +0.3 [0.2, 0.4]``; the last part only where it is known."""
    words = {True: "differs by", False: "not told apart:", None: "undecided:"}[entry["differs"]]
    apart = f"{words} {_interval({**entry, 'value': entry['difference']})}"
    note = f" ({entry['note']})" if entry["note"] else ""
    return f"control {entry['control']}: {short(entry['value'])}{note}, {apart}"


def _paper_order(entry: Entry) -> int:
    return FINDINGS.index(entry["id"]) if entry["id"] in FINDINGS else len(FINDINGS)


def _interval(entry: Entry) -> str:
    if entry["value"] is None:
        return "-"
    low, high = (short(entry[key]) for key in ("low", "high"))
    return f"{short(entry['value'])} [{low}, {high}]"


def _drift(results: Results, place: str) -> Table | Text | None:
    """The curves that drifted, worst first; or how near the nearest came, and what was rewritten."""
    entries = results.of_kind(place, "drift")
    if not entries:
        return None
    red = sorted((entry for entry in entries if not entry["passed"]), key=badness, reverse=True)
    if red:
        return _drifted(red, len(entries))
    text = Text()
    updated = [entry["curve"] for entry in entries if entry["updated"]]
    if updated:
        text.append(f"baselines written: {', '.join(updated)}\n", style="yellow")
    compared = [entry for entry in entries if entry["excess"] is not None and not entry["updated"]]
    if compared:
        worst = max(compared, key=badness)
        closest = f"{worst['curve']} at layer {worst['layer']}, {worst['excess']:.2g} of its tolerance"
        text.append(f"drift: none in {len(compared)} curves; closest: {closest}\n", style="green")
    if not all(entry["shared"] for entry in compared):
        text.append("other images than the baseline's: compared within sampling error\n", style="yellow")
    text.rstrip()
    return text


def _drifted(red: list[Entry], of: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in (f"drift in {len(red)} of {of} curves", "layer", "recorded", "now", "x tolerance"):
        table.add_column(column)
    for entry in red:
        values = [short(entry.get(key)) for key in ("recorded", "measured", "excess")]
        table.add_row(Text(entry["curve"], style="red"), str(entry["layer"]), *values)
    return table


def _curves(entry: Entry, *, everything: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("curve", "layers 0 to L", "first", "least", "most", "last"):
        table.add_column(column, no_wrap=True)
    for name, curve in entry["curves"].items():
        if everything or name in SHOWN:
            table.add_row(name, sparkline(curve["mean"]), *_marks(curve["mean"]))
    return table


def _marks(mean: list[Any]) -> list[str]:
    known = [value for value in mean if value is not None]
    if not known:
        return ["-"] * 4
    return [short(value) for value in (known[0], min(known), max(known), known[-1])]
