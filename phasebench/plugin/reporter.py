"""From the cases to the report: entries travel with pytest's reports, also between processes.

Each case attaches plain data to its item; a report carries it (``report.phasebench``) to the
controller, which puts the run's results together, prints the tables and writes ``--results``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from phasebench import processes
from phasebench.judge.drift.baseline_folders import FOLDERS, RUN_ID
from phasebench.plugin.options import settings_of
from phasebench.plugin.progress import where_kept

if TYPE_CHECKING:
    from phasebench.report.annotations import Failure
    from phasebench.report.results import Results

Entry = dict[str, Any]
ENTRIES = pytest.StashKey[list[Entry]]()
JUDGED = ("finding", "drift", "own")
"""Entries of cases that compare a result with a reference."""
UNCOMPARED = "uncompared"
"""Entries of curves that could not be compared."""
NOTHING = "phasebench: nothing was measured or compared"


def attach(item: pytest.Item, entry: Entry) -> Entry:
    """Send plain data with this item's report; scalars of it also become JUnit properties.

    Returns the entry. Set its ``passed`` to judge it by itself; else the outcome of the whole case counts.
    """
    entry = {**entry, "run": item.stash[RUN_ID]}
    item.stash.setdefault(ENTRIES, []).append(entry)
    if entry["kind"] in (*JUDGED, "timing"):
        for key, value in entry.items():
            if key != "kind" and isinstance(value, str | int | float):
                item.user_properties.append((f"phasebench.{key}", value))
    return entry


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the case attached onto the report of its call, or of a setup that failed or skipped."""
    report = yield
    entries = item.stash.get(ENTRIES, [])
    if entries and (call.when == "call" or not report.passed):
        report.phasebench = list(entries)  # type: ignore[attr-defined]
        entries.clear()
    return report


KEPT = pytest.StashKey[str]()
"""What an interrupted measurement leaves behind, in words."""


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Only the process that reports to the user collects."""
    if not hasattr(config, "workerinput") and processes.rank() == 0:
        config.pluginmanager.register(_Reporter(config), "phasebench.reporter")


class _Reporter:
    """Lives in the controller: collects entries, prints the summary, writes the results."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.entries: list[Entry] = []
        self._kinds: set[str] = set()
        self._unwritten = False

    @property
    def compared(self) -> bool:
        """Whether the run held anything against anything; timings count where only they were asked for."""
        return bool(self._kinds & set(JUDGED)) or ("timing" in self._kinds and UNCOMPARED not in self._kinds)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        again = str(report.outcome) == "rerun"  # pytest-rerunfailures' word; the last one's verdict counts
        for entry in getattr(report, "phasebench", []):
            if not again or entry["kind"] == "measurement":  # which is attached once
                self.entries.append({"passed": not report.failed, **entry})
                if not (report.skipped and entry["kind"] in JUDGED):  # judged, but held against nothing
                    self._kinds.add(entry["kind"])

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Where no measurement of this process has said more: its workers' ends are not told.

        pytest calls this for its own stops too (``-x`` with workers, errors in collection).
        """
        if excinfo.type is not KeyboardInterrupt:
            return
        kept = f"the images measured so far are kept in {where_kept(settings_of(self.config))}"
        self.config.stash.setdefault(KEPT, f"interrupted; {kept}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """Green is a run that compared something and wrote what it was asked for, which happens within."""
        if exitstatus == pytest.ExitCode.OK and not self.compared and not self.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        yield
        if self._unwritten and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.config.option.collectonly:
            return
        from phasebench.report.annotations import errors
        from phasebench.report.outputs import write
        from phasebench.report.results import Results
        from phasebench.report.terminal import notes, skips, tables

        results = Results.of(self.entries)
        for line in tables(results, terminalreporter):
            terminalreporter.write_line(line)
        for line in (*skips(results), *notes(results)):
            terminalreporter.write_line(f"phasebench: {line}", yellow=True)
        if kept := self.config.stash.get(KEPT, None):
            terminalreporter.write_line(f"phasebench: {kept}", yellow=True)
        elif not self.compared:
            terminalreporter.write_line(NOTHING, yellow=True)
        self._tell_stale(terminalreporter, results.run_ids)
        for line, written in write(self.config.option, results):
            terminalreporter.write_line(f"phasebench: {line}", red=not written)
            self._unwritten |= not written
        failed = _failures(terminalreporter)
        if step := os.environ.get("GITHUB_STEP_SUMMARY"):
            terminalreporter.write_line(f"phasebench: {_append(Path(step), results, failed)}")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in errors(failed):  # in a log of its own each line stands at the beginning
                terminalreporter.write_line(line)

    def _tell_stale(self, reporter: pytest.TerminalReporter, run_ids: list[str]) -> None:
        from phasebench.catalog import CURVES

        folders = self.config.stash[FOLDERS]
        stale = [path for run_id in run_ids for path in folders.stale(run_id, set(CURVES))]
        for path in stale:
            reporter.write_line(
                f"phasebench: no case asks for the baseline {path}; remove it if it is not needed"
            )


def _failures(reporter: pytest.TerminalReporter) -> list[Failure]:
    """The cases that failed, and what they attached."""
    from phasebench.report.annotations import Failure

    failed = [report for kind in ("error", "failed") for report in reporter.stats.get(kind, [])]
    return [
        Failure(report.nodeid.rpartition("::")[2], _message(report), getattr(report, "phasebench", ()))
        for report in failed
    ]


def _message(report: Any) -> str:
    """What was raised, without the code that raised it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message).removeprefix("Failed: ") if crash else str(report.longreprtext)


def _append(path: Path, results: Results, failed: Sequence[Failure]) -> str:
    """To the summary of a GitHub step, which other steps and runs may have written to; what came of it."""
    from phasebench.report.summary import markdown

    lost = [failure.first for failure in failed if not failure.entries]
    try:
        with path.open("a", encoding="utf-8") as summary:
            summary.write(markdown(results, lost) or f"{NOTHING}\n")
    except OSError as error:
        return f"GITHUB_STEP_SUMMARY: cannot write {path}: {error.strerror or error}"
    return "told in the step's summary"
