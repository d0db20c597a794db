"""Output for GitHub: a step's summary in Markdown, and failed cases as errors of a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phasebench.files import utf8
from phasebench.report.compared import two_sides, written
from phasebench.report.entries import DriftEntry, FindingEntry, OwnCaseEntry
from phasebench.report.results import Failure, Results, short

SUMMARY_LIMIT = 900_000
"""Size in bytes. GitHub allows a mebibyte per step and drops a summary that is larger."""
MAX_ANNOTATIONS = 10
"""The number of errors that GitHub shows for a step."""


def summary(results: Results) -> str:
    """The summary in Markdown: cases that failed before a result, then a section for each model and dataset.

    Sections with a failure come first, the largest drift before the others. Empty if there are no results.
    """
    lost = [failure.first_line for failure in results.failures if not failure.entries]
    run_ids = sorted(
        results.run_ids, key=lambda run_id: (not _is_red(results, run_id), -_worst(results, run_id))
    )
    sections = (line for run_id in run_ids for line in _section(results, run_id))
    text = utf8("\n".join([*(f"### ❌ {line}\n" for line in dict.fromkeys(lost)), *sections]))
    cut = "" if len(text) <= SUMMARY_LIMIT else "\n\n… cut; the rest is in the results file.\n"
    return text[:SUMMARY_LIMIT].decode(errors="ignore") + cut


def _is_red(results: Results, run_id: str) -> bool:
    measured = results.measurement(run_id)
    return bool(measured and measured.broken) or any(
        entry.judged and entry.failed for entry in results.by_run[run_id]
    )


def _worst(results: Results, run_id: str) -> float:
    return max((entry.badness for entry in results.drift(run_id) if entry.failed), default=0.0)


def _section(results: Results, run_id: str) -> Iterator[str]:
    yield f"### {'❌' if _is_red(results, run_id) else '✅'} {run_id}\n"
    measured = results.measurement(run_id)
    if measured:
        yield f"checkpoint {measured.provenance['checkpoint']}  "
    # As code, because GitHub would take <image> in a prompt for HTML.
    yield from (f"{label} `{text}`  " for label, text in two_sides(results, run_id))
    yield from (f"{line}  " for line in written(results, run_id, full=False))
    yield ""
    for image, where in (measured.broken if measured else {}).items():
        yield f"Broken image {image}: {where}\n"
    for case in results.entries(run_id, OwnCaseEntry):
        if case.failed:
            yield f"Failed: `{case.case}`\n"
    if drifted := [entry for entry in results.drift(run_id) if entry.failed]:
        yield from _drift(drifted)
    if findings := results.entries(run_id, FindingEntry):
        yield from _findings(findings)


def _drift(entries: Sequence[DriftEntry]) -> Iterator[str]:
    """A table of the curves that drifted, worst first, and their causes."""
    yield "| drift | layer | recorded | now | x allowed |"
    yield "|---|---|---|---|---|"
    for entry in entries:
        numbers = map(short, (entry.recorded, entry.measured, entry.excess))
        layer = "-" if entry.layer is None else entry.layer
        yield f"| `{entry.curve}` | {layer} | {' | '.join(numbers)} |"
    yield ""
    reasons = (entry.lines[0] for entry in entries if entry.excess is None and entry.lines)
    causes = (f"Likely cause: {entry.cause}" for entry in entries if entry.cause)
    for text in dict.fromkeys((*reasons, *causes)):
        yield f"{text}\n"


def _findings(entries: Sequence[FindingEntry]) -> Iterator[str]:
    yield "| finding | verdict | recorded | number |"
    yield "|---|---|---|---|"
    for entry in sorted(entries, key=lambda entry: not entry.failed):
        verdict = f"**{entry.verdict}**" if entry.failed else entry.verdict
        yield f"| `{entry.id}` | {verdict} | {entry.recorded or '-'} | {entry.line or entry.detail} |"
    yield ""


def error_lines(failures: Sequence[Failure]) -> Iterator[str]:
    """``::error`` lines, worst first, at most ``MAX_ANNOTATIONS``; the last one counts those left out."""
    ordered = sorted(failures, key=_urgency)
    shown = ordered if len(ordered) <= MAX_ANNOTATIONS else ordered[: MAX_ANNOTATIONS - 1]
    for failure in shown:
        yield f"::error title={_escaped_property(failure.case)}::{_escaped(failure.first_line)}"
    if len(shown) < len(ordered):
        yield f"::error title=phasebench::{len(ordered) - len(shown)} more cases failed"


def _urgency(failure: Failure) -> tuple[int, float]:
    """Sorting key: failures without a result, then changed verdicts, then curves, largest drift first."""
    drift = [entry.badness for entry in failure.entries if isinstance(entry, DriftEntry)]
    judged = any(isinstance(entry, FindingEntry | OwnCaseEntry) for entry in failure.entries)
    return (2, -max(drift)) if drift else (1 if judged else 0, 0.0)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
