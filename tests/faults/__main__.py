"""``python -m tests.faults [--keep FILE]`` runs the whole corpus and writes ``docs/faults.md``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.faults.corpus import document, jobs, run

PATH = Path(__file__).parents[2] / "docs" / "faults.md"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Put every fault into the bundled models, run every harmless variation, and write "
        "docs/faults.md. This takes hours.",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="keep outcomes in FILE; a stopped run resumes from it, and a finished one only names the causes "
        "again, by the present rule",
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    PATH.write_text(document(run(jobs(), arguments.keep)), encoding="utf-8")
