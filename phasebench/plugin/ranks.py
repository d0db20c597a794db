"""Under ``accelerate launch`` all processes but the first measure their share in silence, writing nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phasebench import processes

WRITES = {"xmlpath", "benchmark_json", "benchmark_save", "benchmark_compare", "benchmark_compare_fail"}
"""Options that make a file, or read what only the first process wrote."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse what does not go together; silence all processes but the first.

    Raises:
        pytest.UsageError: several processes and xdist's workers, or a model spread over devices.
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
        config.pluginmanager.register(_Silent(), "phasebench.silent")
        for name in WRITES & set(vars(option)):
            setattr(option, name, None)
        option.benchmark_autosave = option.update_snapshots = option.update_new_snapshots_only = False
        sys.stdout = Path("/dev/null").open("w", encoding="utf-8")  # noqa: SIM115 - open to the end


class _Silent:
    """A process whose results the first one reports."""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Its skipped cases must not be remembered as passed: --lf is the first process's."""
        if cache := getattr(session.config, "cache", None):
            cache.set = lambda *_: None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only measuring is shared."""
        items[:] = [item for item in items if "measurement" in getattr(item, "fixturenames", ())]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Nobody else tells of a failure in this process."""
        if report.failed:
            number = processes.rank()
            sys.stderr.write(f"phasebench: process {number}: {report.nodeid}\n{report.longreprtext}\n")
