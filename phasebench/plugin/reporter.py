"""The way of entries from the cases to the report: pytest's reports carry them, also between processes.

A report has its case's entries as plain data (``report.phasebench``). The controller collects them into the
run's results, prints the tables and writes the outputs.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from phasebench import processes
from phasebench.plugin.last_lines import KINDS, LastLines, failure
from phasebench.plugin.progress import store_message
from phasebench.plugin.run import CASE, run_of
from phasebench.report.entries import (
    Entry,
    MeasurementEntry,
    TimingEntry,
    UncomparedEntry,
)
from phasebench.report.entry_forms import as_plain, from_plain
from phasebench.report.outputs import NOTHING, write
from phasebench.report.results import Failure, Results


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the case's entries to the report of its call, or of a setup that failed or skipped."""
    report = yield
    case = item.stash.get(CASE, None)
    if case and case.entries and (call.when == "call" or not report.passed):
        report.phasebench = [as_plain(entry) for entry in case.entries]  # type: ignore[attr-defined]
        case.entries.clear()
    return report


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Register the reporter in the process that reports to the user."""
    if not hasattr(config, "workerinput") and processes.rank() == 0:
        last = LastLines()
        config.pluginmanager.register(last, "phasebench.last_lines")
        config.pluginmanager.register(Reporter(config, last), "phasebench.reporter")


class Reporter:
    """Collects entries in the controller, prints the summary, writes the outputs."""

    def __init__(self, config: pytest.Config, last: LastLines) -> None:
        self.config = config
        self.last = last
        self.entries: list[Entry] = []
        self._compared_kinds: set[type[Entry]] = set()
        self._output_failed = False

    @property
    def has_compared(self) -> bool:
        """Whether the run compared anything; timings count if the run has nothing else."""
        only_timed = TimingEntry in self._compared_kinds and UncomparedEntry not in self._compared_kinds
        return only_timed or any(kind.judged for kind in self._compared_kinds)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the report's entries; if pytest-rerunfailures repeats a case, its last verdict counts."""
        is_rerun = str(report.outcome) == "rerun"
        for entry in map(from_plain, getattr(report, "phasebench", [])):
            if is_rerun and not isinstance(entry, MeasurementEntry):  # a measurement is attached only once
                continue
            entry.passed = not report.failed if entry.passed is None else entry.passed
            self.entries.append(entry)
            if not (report.skipped and entry.judged):  # judged, but compared with nothing
                self._compared_kinds.add(type(entry))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note where images are kept, unless a measurement of this process has noted more.

        Workers leave no such note. pytest also calls this hook when it stops by itself (``-x`` with workers,
        errors in collection).
        """
        if excinfo.type is not KeyboardInterrupt:
            return
        run = run_of(self.config)
        message = f"interrupted; the images measured so far are kept in {store_message(run.settings)}"
        run.interrupted = run.interrupted or message

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """Fail a green run that compared nothing, or that could not write an output.

        The outputs are written while the wrapped hooks run.
        """
        if exitstatus == pytest.ExitCode.OK and not self.has_compared and not self.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        yield
        if self._output_failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print tables and notes, write the outputs, and call the hook for the user's own."""
        if self.config.option.collectonly:
            return
        interrupted = run_of(self.config).interrupted
        results = Results.of(self.entries, _failures(terminalreporter), interrupted)
        self._print_results(terminalreporter, results)
        for line, success in write(self.config.option, results):
            terminalreporter.write_line(line, red=not success)
            self._output_failed |= not success
        self.config.hook.pytest_phasebench_results(config=self.config, results=results)

    def _print_results(self, reporter: pytest.TerminalReporter, results: Results) -> None:
        from phasebench.report.terminal import notes, skips, tables, uncompared

        for line in tables(results, reporter):
            reporter.write_line(line)
        for line in (*skips(results), *notes(results)):
            reporter.write_line(f"phasebench: {line}", yellow=True)
        if results.interrupted:
            reporter.write_line(f"phasebench: {results.interrupted}", yellow=True)
        lines = [f"phasebench: {line}" for line in uncompared(results)]
        explained = results.interrupted or self.has_compared or results.failures
        self.last.lines = lines or ([] if explained else [NOTHING])
        self._print_stale_baselines(reporter, results.run_ids)

    def _print_stale_baselines(self, reporter: pytest.TerminalReporter, run_ids: list[str]) -> None:
        from phasebench.catalog import CURVES

        folders = run_of(self.config).folders
        for path in (path for run_id in run_ids for path in folders.stale_files(run_id, set(CURVES))):
            message = f"no case asks for the baseline {path}; remove it if it is not needed"
            reporter.write_line(f"phasebench: {message}")


def _failures(reporter: pytest.TerminalReporter) -> list[Failure]:
    """The cases that failed, with their entries."""
    return [failure(report) for kind in KINDS for report in reporter.stats.get(kind, [])]
