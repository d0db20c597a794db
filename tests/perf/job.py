"""The main job, as ``make bench`` runs it: both bundled models on the three bundled datasets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = ("-m", "pytest", "--phasebench", "--fresh", "-p", "no:cacheprovider")


def timed(*options: str) -> tuple[float, float | None, str]:
    """Seconds in all and until the first image is told, and pytest's last line.

    Raises:
        AssertionError: a case failed.
    """
    with tempfile.TemporaryDirectory() as store:
        began, first, last = time.perf_counter(), None, ""
        command = [sys.executable, *JOB, "--store", store, *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout or ():
                if first is None and " images, " in line and "/s" in line:
                    first = time.perf_counter() - began
                last = line.strip("= \n") or last
        if run.returncode:
            raise AssertionError(last)
        return time.perf_counter() - began, first, last


def section() -> str:
    """The paragraph, for ``docs/performance.md``; the files of both models are assembled by then."""
    alone, first, told = timed()
    shared, _, _ = timed("-n", "2")
    return (
        "`pytest --phasebench --fresh` on both bundled models and the three bundled datasets: "
        f"{alone:.0f} s, the first image told after {first or alone:.0f} s ({told}). With `-n 2`, a model "
        f"for each process: {shared:.0f} s."
    )


if __name__ == "__main__":
    print(section())
