"""The main job, as ``make bench`` runs it: both bundled models on the three bundled datasets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = ("-m", "pytest", "--phasebench", "--fresh", "-p", "no:cacheprovider")


def time_run(*options: str) -> tuple[float, float | None, str]:
    """Seconds of the whole run and until its first line of progress, and pytest's last line.

    Raises:
        AssertionError: a case failed.
    """
    with tempfile.TemporaryDirectory() as store:
        start, first_seconds, last_line = time.perf_counter(), None, ""
        command = [sys.executable, *JOB, "--store", store, *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout or ():
                if first_seconds is None and " images, " in line and "/s" in line:
                    first_seconds = time.perf_counter() - start
                last_line = line.strip("= \n") or last_line
        if run.returncode:
            raise AssertionError(last_line)
        return time.perf_counter() - start, first_seconds, last_line


def section() -> str:
    """The paragraph for ``docs/performance.md``; the sections before it have assembled both models' files."""
    seconds, first_seconds, last_line = time_run()
    seconds_with_two, _, _ = time_run("-n", "2")
    return (
        "`pytest --phasebench --fresh` on both bundled models and the three bundled datasets: "
        f"{seconds:.0f} s, the first image reported after {first_seconds or seconds:.0f} s ({last_line}). "
        f"With `-n 2`, a model for each process: {seconds_with_two:.0f} s."
    )


if __name__ == "__main__":
    print(section())
