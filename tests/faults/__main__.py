"""``python -m tests.faults [--keep FILE]`` runs the whole corpus and writes ``docs/faults.md``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.faults.corpus import document, jobs, run

PATH = Path(__file__).parents[2] / "docs" / "faults.md"

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--keep", type=Path, help="outcomes go here; a stopped run goes on from it")
    asked = parser.parse_args()
    PATH.write_text(document(run(jobs(), asked.keep)), encoding="utf-8")
