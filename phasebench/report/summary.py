"""A run as Markdown for ``$GITHUB_STEP_SUMMARY``: what went wrong first, then the findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from phasebench.files import utf8
from phasebench.report.results import Entry, Results, badness, short

LIMIT = 900_000
"""Bytes; GitHub takes a mebibyte a step and drops a summary above it whole."""


def markdown(results: Results, lost: Iterable[str] = ()) -> str:
    """One section a model and dataset: what drifted most, then changed verdicts, then the green ones.

    ``lost`` are the messages of cases that came to no measurement: they stand before all.
    """
    run_ids = sorted(
        results.run_ids, key=lambda run_id: (not _red(results, run_id), -_worst(results, run_id))
    )
    sections = (line for run_id in run_ids for line in _section(results, run_id))
    text = "\n".join([*(f"### ❌ {message}\n" for message in dict.fromkeys(lost)), *sections])
    told = utf8(text)
    cut = "" if len(told) <= LIMIT else "\n\n… cut; the rest is in the results file.\n"
    return told[:LIMIT].decode(errors="ignore") + cut


def _red(results: Results, run_id: str) -> bool:
    measured = results.measurement(run_id) or {}
    cases = (entry for kind in ("drift", "finding", "own") for entry in results.of_kind(run_id, kind))
    return bool(measured.get("broken")) or any(not entry["passed"] for entry in cases)


def _worst(results: Results, run_id: str) -> float:
    drifted = (badness(entry) for entry in results.of_kind(run_id, "drift") if not entry["passed"])
    return max(drifted, default=0.0)


def _section(results: Results, run_id: str) -> Iterator[str]:
    mark = "❌" if _red(results, run_id) else "✅"
    yield f"### {mark} {run_id}\n"
    for image, where in (results.measurement(run_id) or {}).get("broken", {}).items():
        yield f"Broken image {image}: {where}\n"
    for entry in results.of_kind(run_id, "own"):
        if not entry["passed"]:
            yield f"Failed: `{entry['case']}`\n"
    drifted = [entry for entry in results.of_kind(run_id, "drift") if not entry["passed"]]
    if drifted:
        yield from _drift(drifted)
    findings = results.of_kind(run_id, "finding")
    if findings:
        yield from _findings(findings)


def _drift(entries: list[Entry]) -> Iterator[str]:
    """The curves that drifted, worst first."""
    yield "| drift | layer | recorded | now | x allowed |"
    yield "|---|---|---|---|---|"
    for entry in sorted(entries, key=badness, reverse=True):
        numbers = (short(entry.get(key)) for key in ("recorded", "measured", "excess"))
        layer = "-" if entry["layer"] is None else entry["layer"]
        yield f"| `{entry['curve']}` | {layer} | {' | '.join(numbers)} |"
    yield ""
    reasons = (entry["told"][0] for entry in entries if entry["excess"] is None and entry["told"])
    causes = (f"Likely cause: {entry['cause']}" for entry in entries if entry.get("cause"))
    for told in dict.fromkeys((*reasons, *causes)):
        yield f"{told}\n"


def _findings(entries: list[Entry]) -> Iterator[str]:
    yield "| finding | verdict | value | interval | recorded |"
    yield "|---|---|---|---|---|"
    for entry in sorted(entries, key=lambda e: bool(e["passed"])):
        interval = f"{short(entry['low'])} to {short(entry['high'])}"
        recorded = entry["recorded"] or "-"
        verdict = entry["verdict"] if entry["passed"] else f"**{entry['verdict']}**"
        yield f"| `{entry['id']}` | {verdict} | {short(entry['value'])} | {interval} | {recorded} |"
    yield ""
