"""Findings and drift in the terminal: verdicts in the paper's order, drifted curves worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from phasebench.catalog import FINDINGS
from phasebench.report.results import Entry, badness, short

STYLES = {"holds": "green", "does not hold": "red", "undecided": "magenta"}
"""Yellow cannot be read on a light background."""
WORST = 6
"""Curves that drifted which are shown without ``-v``."""
INDENT = 2


def findings(entries: Sequence[Entry], *, full: bool) -> Iterator[RenderableType]:
    """A row a finding: verdict, value with interval, recorded verdict; under it what the value is.

    Without ``full`` that takes one line, and of the controls only those are named that do not differ.
    """
    if not entries:
        return
    ordered = sorted(entries, key=_paper_order)
    names = max(len("finding"), *(len(entry["id"]) for entry in ordered))
    values = max(len(HEADER), *(len(interval(entry)) for entry in ordered))
    yield Text(f"{'finding':<{names}} {'verdict':<13} {HEADER:<{values}}  recorded", style="bold")
    for entry in ordered:
        yield Text.assemble(
            (f"{entry['id']:<{names}} ", "" if entry["passed"] else "bold red"),
            (f"{entry['verdict']:<13} ", STYLES[entry["verdict"]]),
            f"{interval(entry):<{values}}  ",
            _recorded(entry),
        )
        yield from _whole(entry) if full else _brief(entry)


HEADER = "value [interval]"


def interval(entry: Entry) -> str:
    """``0.12 [0.1, 0.14]``; - where there is no value."""
    if entry["value"] is None:
        return "-"
    return f"{short(entry['value'])} [{short(entry['low'])}, {short(entry['high'])}]"


def _paper_order(entry: Entry) -> int:
    return FINDINGS.index(entry["id"]) if entry["id"] in FINDINGS else len(FINDINGS)


def _recorded(entry: Entry) -> tuple[str, str]:
    if entry["recorded"] is None:
        return "-", ""
    return ("same", "") if entry["recorded"] == entry["verdict"] else (entry["recorded"], "bold")


def _brief(entry: Entry) -> Iterator[RenderableType]:
    yield _line(Text(entry["detail"], style="dim", no_wrap=True, overflow="ellipsis"))
    alike = [control["control"] for control in entry["controls"] if control["differs"] is False]
    if alike:
        yield _line(Text(f"not distinguishable from control: {', '.join(alike)}"))
    yield from _needed(entry)


def _whole(entry: Entry) -> Iterator[RenderableType]:
    told = [entry["detail"], *map(control_line, entry["controls"])]
    if entry.get("margin") is not None:
        told.append(f"margin: {short(entry['margin'])}")
    for text in told:
        yield _line(Text(text, style="dim"))
    yield from _needed(entry)


def _needed(entry: Entry) -> Iterator[RenderableType]:
    if entry.get("images_needed") is not None:
        yield _line(Text(f"about {entry['images_needed']} images would decide", style=STYLES["undecided"]))


def _line(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, INDENT), expand=False)


def control_line(entry: Entry) -> str:
    """``control blank: 0.12, differs by 0.3 [0.2, 0.4]``."""
    words = {True: "differs by", False: "not distinguishable:", None: "undecided:"}[entry["differs"]]
    apart = f"{words} {interval({**entry, 'value': entry['difference']})}"
    note = f" ({entry['note']})" if entry["note"] else ""
    return f"control {entry['control']}: {short(entry['value'])}{note}, {apart}"


def drift(entries: Sequence[Entry], *, full: bool) -> Iterator[RenderableType]:
    """The curves that drifted, worst first; or how near the nearest came, and what was rewritten.

    With ``full`` all curves stand in the table, and under it the worst layers of those that drifted.
    """
    ordered = sorted(entries, key=badness, reverse=True)
    red = [entry for entry in ordered if not entry["passed"]]
    if red:
        yield Text(f"drift in {len(red)} of {len(entries)} curves, worst first", style="bold red")
    else:
        yield from _calm(ordered)
    shown = ordered if full else red[:WORST]
    if shown:
        yield _table(shown)
    if len(red) > len(shown):
        yield Text(f"... and {len(red) - len(shown)} more; -v shows all")
    for cause in dict.fromkeys(entry["cause"] for entry in red if entry.get("cause")):
        yield Text(f"likely cause: {cause}", style="bold")
    if full:
        yield from (_line(Text(line, style="dim")) for entry in red for line in entry["told"])


def _calm(entries: Sequence[Entry]) -> Iterator[Text]:
    """What is said where nothing drifted."""
    updated = [entry["curve"] for entry in entries if entry["updated"]]
    if updated:
        yield Text(f"baselines written: {', '.join(updated)}", style="bold")
    for why in dict.fromkeys(entry["left"] for entry in entries if entry.get("left")):
        yield Text(f"no baseline written: {why}", style="bold")
    compared = [entry for entry in entries if entry["excess"] is not None and not entry["updated"]]
    if compared:
        worst = compared[0]
        nearest = f"{worst['curve']}, layer {worst['layer']}: {worst['excess']:.2f} x allowed"
        yield Text(f"no drift in {len(compared)} curves; nearest: {nearest}", style="green")
    others = [entry["curve"] for entry in compared if not entry["shared"]]
    if others:
        told = "all" if len(others) == len(compared) else ", ".join(others)
        yield Text(f"compared with other images or captions, within the sampling error: {told}", style="bold")
    part = {(entry["shared"], entry["images"]) for entry in compared if 0 < entry["shared"] < entry["images"]}
    for shared, images in sorted(part):
        yield Text(f"compared on {shared} of {images} images: those that both have", style="bold")


def _table(entries: Sequence[Entry]) -> Table:
    """At the worst layer of each; ``sd`` is the difference in standard deviations over images."""
    table = Table(box=None, pad_edge=False)
    for column in ("curve", "layer", "recorded", "now", "sd", "x allowed"):
        table.add_column(column, justify="left" if column == "curve" else "right")
    for entry in entries:
        numbers = (short(entry.get(key)) for key in ("recorded", "measured", "effect", "excess"))
        layer = "-" if entry["layer"] is None else str(entry["layer"])
        table.add_row(Text(entry["curve"], style="" if entry["passed"] else "red"), layer, *numbers)
    return table
