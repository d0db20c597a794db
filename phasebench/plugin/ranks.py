"""Several processes (``accelerate launch``): all but the first measure their share and print nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phasebench import processes

FILE_OPTIONS = {"xmlpath", "benchmark_json", "benchmark_save", "benchmark_compare", "benchmark_compare_fail"}
"""Options that write a file, or read a file that only the first process writes."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that several processes cannot have; silence all processes but the first.

    Raises:
        pytest.UsageError: there are several processes, and xdist's workers or a model spread over devices.
    """
    if processes.count() == 1:
        return
    option = config.option
    if getattr(option, "numprocesses", None):
        raise pytest.UsageError("-n: pytest-xdist and a launcher's processes do not go together; use one")
    if option.max_memory:
        raise pytest.UsageError(
            "--max-memory: with several processes each holds the whole model on its device; "
            "run a model that is spread over devices in one process"
        )
    if processes.rank():
        config.pluginmanager.register(_SilentProcess(), "phasebench.silent")
        for name in FILE_OPTIONS & set(vars(option)):
            setattr(option, name, None)
        option.benchmark_autosave = option.update_snapshots = option.update_new_snapshots_only = False
        sys.stdout = Path("/dev/null").open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends


class _SilentProcess:
    """Hooks of a process whose results the first process reports."""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Do not remember this process's skipped cases as passed: ``--lf`` uses the first process's."""
        if cache := getattr(session.config, "cache", None):
            cache.set = lambda *_: None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep only the cases that measure; the others are the first process's."""
        items[:] = [item for item in items if "measurement" in getattr(item, "fixturenames", ())]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failure of this process: no other process reports it."""
        if report.failed:
            number = processes.rank()
            sys.stderr.write(f"phasebench: process {number}: {report.nodeid}\n{report.longreprtext}\n")
