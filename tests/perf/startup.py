"""What phasebench costs a pytest run that does not use it, and how long listing its cases takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.perf.timing import differences, interleaved, milliseconds

LISTING = """
import sys, pytest
code = pytest.main(["--phasebench", "--co", "-q", "-p", "no:cacheprovider"])
print("torch" in sys.modules, int(code))
"""
PLUGIN = ("-p", "phasebench.plugin")


def pytest_run(folder: Path, *options: str) -> None:
    """Run pytest, without ``--phasebench``, over one empty test."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)


def listing() -> str:
    """The last line of ``pytest --phasebench --co``: whether torch was imported, and the exit code."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[-1]


def section(rounds: int = 31) -> str:
    """The paragraph for ``docs/performance.md``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        routes = {
            "without": lambda: pytest_run(folder, "-p", "no:phasebench.plugin"),
            "with": lambda: pytest_run(folder, *PLUGIN),
        }
        times = interleaved(routes, rounds)
    last_line = listing()
    listing_times = interleaved({"list": listing}, 3)["list"]
    milliseconds_added = [1000 * seconds for seconds in differences(times["with"], times["without"])]
    median_added = statistics.median(milliseconds_added)
    low, _, high = statistics.quantiles(milliseconds_added, n=4)
    return (
        f"Plain `pytest` over one empty test: {milliseconds(times['without'])} without the plugin, "
        f"{median_added:+.0f} ms with it (median of {rounds} pairs; half of them between "
        f"{low:+.0f} and {high:+.0f} ms). `pytest --phasebench --co`: "
        f"{statistics.median(listing_times):.2f} s, "
        f"torch {'is' if last_line.startswith('True') else 'is not'} imported "
        f"(exit code {last_line.split()[-1]})."
    )


if __name__ == "__main__":
    print(section())
