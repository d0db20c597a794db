"""Findings and drift in the terminal: verdicts in the paper's order, and curves with drift, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from phasebench.report.entries import ControlRow, DriftEntry, FindingEntry, Number
from phasebench.report.results import short

STYLES = {"holds": "green", "does not hold": "red", "undecided": "magenta"}
"""Colours of the verdicts; yellow is unreadable on a light background."""
WORST = 6
"""The number of curves with drift that are shown without ``-v``."""
INDENT = 2


def finding_rows(entries: Sequence[FindingEntry], *, full: bool) -> Iterator[RenderableType]:
    """A row for each finding: verdict and recorded verdict; below it the number with its bound, and details.

    Without ``full``, the details are one line unless the claim holds, and the controls that do not differ.
    With ``full``, also the claim, the other controls and the margin.
    """
    if not entries:
        return
    names = max(len("finding"), *(len(entry.id) for entry in entries))
    yield Text(f"{'finding':<{names}}  {'verdict':<13}  recorded", style="bold")
    for entry in entries:
        yield Text.assemble(
            (f"{entry.id:<{names}}  ", "bold red" if entry.failed else ""),
            (f"{entry.verdict:<13}  ", STYLES[entry.verdict]),
            _recorded(entry),
        )
        yield from _all_details(entry) if full else _short_details(entry)


def interval(value: Number, low: Number, high: Number) -> str:
    """``0.12 [0.1, 0.14]``; ``-`` without a value."""
    return "-" if value is None else f"{short(value)} [{short(low)}, {short(high)}]"


def _recorded(entry: FindingEntry) -> tuple[str, str]:
    if entry.recorded is None:
        return "-", ""
    changed = entry.recorded != entry.verdict
    return entry.recorded or "unreadable", "bold" if changed else ""


def _short_details(entry: FindingEntry) -> Iterator[RenderableType]:
    if entry.line:
        yield _indented(Text(entry.line))
    if entry.detail and not (entry.line and entry.verdict == "holds"):
        yield _indented(Text(entry.detail, style="dim", no_wrap=True, overflow="ellipsis"))
    alike = [
        f"{control['control']}{_other_quantity(control, ' ({})')}"
        for control in entry.controls
        if control["differs"] is False
    ]
    if alike:
        yield _indented(Text(f"not distinguishable from control: {', '.join(alike)}"))
    yield from _images_needed(entry)


def _all_details(entry: FindingEntry) -> Iterator[RenderableType]:
    if entry.claim:
        yield _indented(Text(f"claim: {entry.claim}", style="dim"))
    if entry.line:
        yield _indented(Text(entry.line))
    margin = "" if entry.margin is None else f"margin: {short(entry.margin)} standard errors"
    lines = (entry.detail, *map(control_line, entry.controls), margin)
    yield from (_indented(Text(line, style="dim")) for line in lines if line)
    yield from _images_needed(entry)


def _images_needed(entry: FindingEntry) -> Iterator[RenderableType]:
    if entry.images_needed is not None:
        yield _indented(Text(f"about {entry.images_needed} images would decide", style=STYLES["undecided"]))


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, INDENT), expand=False)


def control_line(row: ControlRow) -> str:
    """``control blank, mean ratio: 0.12, differs by 0.3 [0.2, 0.4]``."""
    words = {True: "differs by", False: "not distinguishable:", None: "undecided:"}[row["differs"]]
    difference = f"{words} {interval(row['difference'], row['low'], row['high'])}"
    note = f" ({row['note']})" if row["note"] else ""
    name = f"{row['control']}{_other_quantity(row, ', {}')}"
    return f"control {name}: {short(row['value'])}{note}, {difference}"


def _other_quantity(row: ControlRow, template: str) -> str:
    """The name of the compared number in a template, if it is not the finding's; else empty."""
    return template.format(row["quantity"]) if row["quantity"] else ""


def drift_rows(entries: Sequence[DriftEntry], *, full: bool) -> Iterator[RenderableType]:
    """A table of the curves with drift; without drift, the nearest curve.

    Args:
        entries: the compared curves, worst first.
        full: whether the table has all curves, followed by the worst layers of those that drifted.
    """
    drifted = [entry for entry in entries if entry.failed]
    if drifted:
        title = f"drift in {len(drifted)} of {len(entries)} curves, worst first"
        yield Text(title, style="bold red")
    else:
        yield from _without_drift(entries)
    shown = entries if full else drifted[:WORST]
    if shown:
        yield _table(shown)
    if len(drifted) > len(shown):
        yield Text(f"... and {len(drifted) - len(shown)} more; -v shows all")
    for cause in dict.fromkeys(entry.cause for entry in drifted if entry.cause):
        yield Text(f"likely cause: {cause}", style="bold")
    if full:
        for entry in drifted:
            yield Text(f"{entry.curve}:", style="dim")
            yield from (_indented(Text(line, style="dim")) for line in entry.lines)


def _without_drift(entries: Sequence[DriftEntry]) -> Iterator[Text]:
    """The lines in place of a table if nothing drifted."""
    for reason in dict.fromkeys(entry.left for entry in entries if entry.left):
        yield Text(f"no baseline written: {reason}", style="bold")
    compared = [entry for entry in entries if entry.excess is not None and not entry.updated]
    if compared:
        worst = compared[0]
        nearest = f"{worst.curve}, layer {worst.layer}: {worst.excess:.2f} x allowed"
        yield Text(f"no drift in {len(compared)} curves; nearest: {nearest}", style="green")
    other_images = [entry.curve for entry in compared if not entry.shared]
    if other_images:
        curves = "all" if len(other_images) == len(compared) else ", ".join(other_images)
        text = f"compared with other images or captions, within the sampling error: {curves}"
        yield Text(text, style="bold")
    counts = {(entry.shared, entry.images) for entry in compared if 0 < entry.shared < entry.images}
    for shared, images in sorted(counts):
        yield Text(f"compared on {shared} of {images} images: those that both have", style="bold")


def _table(entries: Sequence[DriftEntry]) -> Table:
    """Numbers at each curve's worst layer; ``sd`` is the difference in standard deviations over images."""
    table = Table(box=None, pad_edge=False)
    for column in ("curve", "layer", "recorded", "now", "sd", "x allowed"):
        table.add_column(column, justify="left" if column == "curve" else "right")
    for entry in entries:
        numbers = map(short, (entry.recorded, entry.measured, entry.effect, entry.excess))
        layer = "-" if entry.layer is None else str(entry.layer)
        table.add_row(Text(entry.curve, style="red" if entry.failed else ""), layer, *numbers)
    return table
