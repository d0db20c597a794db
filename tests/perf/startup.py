"""What phasebench costs a pytest run that does not ask for it, and what listing its cases takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.perf.timing import interleaved, milliseconds

LISTED = """
import sys, pytest
code = pytest.main(["--phasebench", "--co", "-q", "-p", "no:cacheprovider"])
print("torch" in sys.modules, int(code))
"""
PLUGIN = ("-p", "phasebench.plugin")


def pytest_run(folder: Path, *options: str) -> None:
    """A plain pytest over one empty test."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)


def listing() -> str:
    """What ``pytest --phasebench --co`` prints last: whether torch was imported, and the exit code."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LISTED], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[-1]


def section(rounds: int = 31) -> str:
    """The paragraph, for ``docs/performance.md``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        routes = {
            "without": lambda: pytest_run(folder, "-p", "no:phasebench.plugin"),
            "with": lambda: pytest_run(folder, *PLUGIN),
        }
        times = interleaved(routes, rounds)
    told = listing()
    listed = interleaved({"list": listing}, 3)["list"]
    more = [1000 * (one - other) for one, other in zip(times["with"], times["without"], strict=True)]
    low, _, high = statistics.quantiles(more, n=4)
    return (
        f"Plain `pytest` over one empty test: {milliseconds(times['without'])} without the plugin, "
        f"{statistics.median(more):+.0f} ms with it (median of {rounds} pairs; half of them between "
        f"{low:+.0f} and {high:+.0f} ms). `pytest --phasebench --co`: "
        f"{statistics.median(listed):.2f} s, torch {'is' if told.startswith('True') else 'is not'} imported "
        f"(exit code {told.split()[-1]})."
    )


if __name__ == "__main__":
    print(section())
