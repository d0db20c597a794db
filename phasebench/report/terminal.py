"""The terminal's summary, one screen per model and dataset: measurement, findings, drift, timing, curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from phasebench.catalog import BY_NAME, PARTS
from phasebench.report.compared import one_checkpoint_two_prompts, two_sides, written
from phasebench.report.entries import (
    FindingEntry,
    Layout,
    MeasurementEntry,
    Skip,
    TimingEntry,
    UncomparedEntry,
)
from phasebench.report.figure_model import Boundary, Value
from phasebench.report.figures import phases_and_boundaries
from phasebench.report.results import Results, short
from phasebench.report.terminal_verdicts import drift_rows, finding_rows
from phasebench.report.text_plot import MEET, plot, sparkline

if TYPE_CHECKING:
    import pytest

PLOTTED = "inter"
"""The curve that is plotted, because its phases are fitted."""
NARROWEST = 60
"""Smallest width of the output, in characters."""
WIDEST = 68
"""Largest width of a plot, without its frame."""
AXIS = 12
"""Width of a plot's frame and numbers."""
GAP = 2
"""Characters between two columns of a table."""


def tables(results: Results, reporter: pytest.TerminalReporter) -> Iterator[str]:
    """The lines of the summary, in the width and colours of the reporter's terminal; none with ``-q``."""
    if reporter.verbosity < 0:
        return
    writer = reporter._tw
    for run_id in results.run_ids:
        reporter.write_sep("=", f"phasebench {run_id}")
        for part in screen(results, run_id, max(writer.fullwidth, NARROWEST), full=reporter.verbosity > 0):
            text = render(part, writer.fullwidth, colour=writer.hasmarkup)
            yield from (line.rstrip() for line in text.splitlines())


def screen(results: Results, run_id: str, width: int, *, full: bool) -> Iterator[RenderableType]:
    """All parts of one model and dataset, separated by empty lines; ``full`` adds the details of ``-v``."""
    measured = results.measurement(run_id)
    verdicts = results.findings(run_id)
    parts: list[list[RenderableType]] = [
        [_measured(measured, two_sides(results, run_id))] if measured else [],
        [Text(line, "bold") for line in written(results, run_id, full=full)],
        list(finding_rows(verdicts, full=full)),
        list(drift_rows(results.drift(run_id), full=full)),
        list(_timing(measured, results.entries(run_id, TimingEntry))) if measured else [],
        list(_curves(measured, verdicts, width, full=full)) if measured else [],
    ]
    for number, part in enumerate(filter(None, parts)):
        yield from ["", *part] if number else part


def render(part: RenderableType, width: int, *, colour: bool) -> str:
    """rich's rendering as text, without touching the real terminal."""
    console = Console(
        file=StringIO(),
        width=max(width, NARROWEST),
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
    )
    console.print(part)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def skips(results: Results) -> Iterator[str]:
    """One line per dataset with skipped images: their number, the reasons, the first image of each reason."""
    by_dataset = {entry.provenance["dataset"]: entry for entry in results.measurements().values()}
    for dataset, entry in sorted(by_dataset.items()):
        if skipped := entry.skipped:
            yield (
                f"{dataset}: {len(skipped)} image{'s' if len(skipped) > 1 else ''} skipped, "
                f"{len(entry.images)} measured: {', '.join(_kinds(skipped))}"
            )


def _kinds(skipped: Sequence[Skip]) -> Iterator[str]:
    first = {skip["reason"]: skip["path"] for skip in reversed(skipped)}
    for reason, count in Counter(skip["reason"] for skip in skipped).items():
        yield f"{count} {reason} ({first[reason]}{', ...' if count > 1 else ''})"


def uncompared(results: Results) -> Iterator[str]:
    """A line for each reason for which cases compared nothing, with their numbers and the remedy."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for run_id in results.run_ids:
        for entry in results.entries(run_id, UncomparedEntry):
            counts = groups.setdefault((entry.reason, entry.remedy), {})
            counts[run_id] = counts.get(run_id, 0) + 1
    for (reason, remedy), counts in groups.items():
        cases = ", ".join(f"{count} of {run_id}" for run_id, count in counts.items())
        yield f"cases not compared: {cases}: {reason}{f'; {remedy}' if remedy else ''}"


def notes(results: Results) -> Iterator[str]:
    """Events of the measurements that change no number, one line each."""
    for run_id, entry in results.measurements().items():
        yield from (f"{run_id}: {note}" for note in entry.notes)
    yield from one_checkpoint_two_prompts(results.measurements())


def _measured(entry: MeasurementEntry, sides: Iterable[tuple[str, str]]) -> Table:
    """A table of model, prompt and baselines, images, device and versions, seconds, and what is left out."""
    source = entry.provenance
    revision = f"{source['source']}, " if "source" in source else ""
    machine = f"{source['device']}, {source.get('quantization', source['dtype'])}"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in (
        ("model", f"{source['architecture']}, {revision}checkpoint {source['checkpoint']}"),
        *sides,
        ("images", f"{source['images']}, {_layout(entry.layout)}"),
        ("ran on", f"{machine}, torch {source['torch']}, transformers {source['transformers']}"),
        ("took", _took(entry.timing["total"], entry.stored)),
        *(("not measured", f"{part}: {reason}") for part, reason in source.get("unmeasured", {}).items()),
    ):
        table.add_row(label, Text(text))
    return table


def _layout(layout: Layout | list[Layout]) -> str:
    if isinstance(layout, list):
        return "in several layouts"
    tokens = sum(end - start for start, end in layout["visual"])
    spans = ", ".join(f"{start}-{end - 1}" for start, end in layout["visual"])
    return f"each {tokens} tokens at {spans} of {layout['length']} positions"


def _took(seconds: Value, stored: int) -> str:
    """The seconds of the images that this run measured, and the number of images from the store."""
    from_store = f"{stored} images from the store (--fresh measures them again)" if stored else ""
    spent = "" if seconds is None else f"{seconds:.1f} s"
    return "; ".join(filter(None, (spent, from_store)))


def _timing(entry: MeasurementEntry, replayed: list[TimingEntry]) -> Iterator[Text]:
    """Time per image, compared with the plain pass, and with the stored benchmark if there is one."""
    seconds, plain, ratio = (entry.timing[key] for key in ("pass", "plain", "ratio"))
    if seconds is None:
        return
    text = f"timing: {1e3 * seconds:.0f} ms an image"
    if ratio and plain is not None:
        text += f", {ratio:.2f} x the plain forward pass ({1e3 * plain:.0f} ms)"
    yield Text(text)
    changes = [
        f"{timed.route} {100 * (timed.seconds / timed.stored - 1):+.1f} % ({1e3 * timed.stored:.0f} ms)"
        for timed in replayed
        if timed.stored
    ]
    if changes:
        yield Text(f"against the stored benchmark: {', '.join(changes)}")


def _curves(
    entry: MeasurementEntry, verdicts: list[FindingEntry], width: int, *, full: bool
) -> Iterator[RenderableType]:
    """A plot of ``PLOTTED`` and one row of blocks per curve; with ``full`` also tables by layer."""
    names, boundaries = phases_and_boundaries(verdicts)
    mean = entry.curves[PLOTTED]["mean"]
    drawn = plot(mean, names, boundaries, width=min(width - AXIS, WIDEST))
    if drawn:
        yield Text(f"{PLOTTED}: similarity between image and text, by layer", "bold")
        yield from (Text(line, no_wrap=True, overflow="ignore") for line in drawn)
        yield ""
    shown = [name for name in entry.curves if full or BY_NAME[name].in_summary]
    yield _rows(entry, shown, boundaries, width)
    if full:
        yield from _by_layer(entry, width)


def _rows(entry: MeasurementEntry, names: list[str], boundaries: list[Boundary], width: int) -> Table:
    """A table with name, blocks and three numbers of each curve; the blocks fill the remaining width."""
    means = {name: entry.curves[name]["mean"] for name in names}
    columns = [names, *zip(*map(_marks, means.values()), strict=True)]
    heads = ("curve", "least", "most", "last")
    taken = sum(max(map(len, (head, *column))) + GAP for head, column in zip(heads, columns, strict=True))
    ends = [boundary.layer for boundary in boundaries]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(heads[0], no_wrap=True, min_width=max(map(len, names)))
    table.add_column(f"layers 0 to L{f', {MEET} phases meet' if ends else ''}", no_wrap=True)
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for name, mean in means.items():
        table.add_row(name, sparkline(mean, ends, width - taken), *_marks(mean))
    return table


def _marks(mean: list[Value]) -> list[str]:
    known = [value for value in mean if value is not None]
    return [short(value) for value in (min(known), max(known), known[-1])] if known else ["-"] * 3


def _by_layer(entry: MeasurementEntry, width: int) -> Iterator[RenderableType]:
    """The means of all curves by layer, in as many tables as are needed to fit into the width.

    A table has curves of one part only.
    """
    for names in PARTS.values():
        texts = {name: [name, *map(short, entry.curves[name]["mean"])] for name in names}
        widths = {name: max(map(len, column)) + GAP for name, column in texts.items()}
        for block in _blocks(widths, width - len("layer")):
            yield from ("", _layer_table(entry, block))


def _blocks(widths: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """The names in order, in groups whose widths together are at most ``most``, or of one name."""
    block: list[str] = []
    for name, width in widths.items():
        if block and sum(widths[other] for other in block) + width > most:
            yield block
            block = []
        block.append(name)
    yield block


def _layer_table(entry: MeasurementEntry, names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, GAP))
    for column in ("layer", *names):
        table.add_column(column, justify="right", no_wrap=True)
    columns = (entry.curves[name]["mean"] for name in names)
    for layer, values in enumerate(zip(*columns, strict=True)):
        table.add_row(str(layer), *map(short, values))
    return table
