"""The last lines of a run: failed cases with their causes, how to run one again, what was not compared."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Generator, Iterator, Sequence

import pytest

from phasebench.plugin.blocking import BLOCKED
from phasebench.plugin.case_ids import runnable_id
from phasebench.report.entry_forms import from_plain
from phasebench.report.results import Failure

KINDS = {"error": "ERROR", "failed": "FAILED"}
"""pytest's kinds of reports that have failed -> the word before the case."""


class LastLines:
    """Prints failed cases in place of pytest's short summary, which in 80 columns has no room for causes.

    Attributes:
        lines: more lines to print at the very end.
        unwritten: the message about a file that another plugin could not write; empty if there is none.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.unwritten = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Print after everything else."""
        reporter = terminalreporter
        wanted = [kind for kind, letter in zip(KINDS, "Ef", strict=True) if letter in reporter.reportchars]
        reporter.reportchars = "".join(letter for letter in reporter.reportchars if letter not in "Ef")
        yield
        reports = [(kind, report) for kind in wanted for report in reporter.stats.get(kind, [])]
        if reports and not reporter.no_summary:
            reporter.write_sep("=", "failed cases", cyan=True, bold=True)
            for kind, report in reports:
                self._print_case(reporter, kind, report)
            if any(kind == "failed" for kind, _ in reports):
                reporter.write_line(again(reporter.config))
            for line in blocked(reporter.stats.get("skipped", [])):
                reporter.write_line(line)
        for line in self.lines:
            reporter.write_line(line, yellow=True)
        if self.unwritten:
            reporter.write_line(self.unwritten, red=True)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Report a file that another plugin cannot write; the error would end the run without results."""
        try:
            yield
        except OSError as error:
            path = session.config.getoption("xmlpath", None)
            what = f"--junitxml {path}" if path else "another plugin's file"
            self.unwritten = f"phasebench: {what} could not be written: {error}"
            if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _print_case(self, reporter: pytest.TerminalReporter, kind: str, report: pytest.TestReport) -> None:
        """One line if it has room for the id and the cause, else two."""
        case, cause = shlex.quote(runnable_id(reporter.config, report.nodeid)), failure(report).first_line
        fits = len(f"{KINDS[kind]} {case} - {cause}") <= reporter._tw.fullwidth
        reporter.write(KINDS[kind], red=True)
        reporter.write_line(f" {case} - {cause}" if fits else f" {case}\n  {cause}")


def blocked(reports: Sequence[pytest.TestReport]) -> Iterator[str]:
    """A line for each cause that blocked cases, with their number."""
    reasons = (report.longrepr[2].removeprefix("Skipped: ") for report in reports)  # type: ignore[index]
    for reason, count in Counter(reasons).items():
        if reason.startswith(f"{BLOCKED} "):
            yield f"{count} other cases skipped {reason}"


def again(config: pytest.Config) -> str:
    """The command that runs a single case: the run's own options, and an id in place of its files."""
    arguments = config.invocation_params.args
    files = set(config.known_args_namespace.file_or_dir)
    return f"to run one again: {shlex.join(['pytest', *(a for a in arguments if a not in files)])} ID"


def failure(report: pytest.TestReport) -> Failure:
    """The failed case of a report, with its message and entries."""
    crash = getattr(report.longrepr, "reprcrash", None)
    # The message of the exception, without the code that raised it.
    message = str(crash.message).removeprefix("Failed: ") if crash else str(report.longreprtext)
    entries = [from_plain(plain) for plain in getattr(report, "phasebench", ())]
    return Failure(report.nodeid.rpartition("::")[2], message, entries)
