"""``--list-models``: every name, quickly, in the width of the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phasebench.models.named_models import known_models

LISTING = """
import sys, pytest
code = pytest.main(["--phasebench", "--list-models", "-p", "no:cacheprovider"])
print(int(code), *sorted({"torch", "transformers", "scipy", "pandas"} & {*sys.modules}))
"""


def listing(folder: Path, **environment: str) -> list[str]:
    """The lines of the list, in a process of its own, and the exit code with the heavy modules imported."""
    kept = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    command = [sys.executable, "-c", LISTING]
    done = subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("columns", ["80", ""])
def test_the_list_imports_nothing_heavy_and_names_every_model(tmp_path: Path, columns: str) -> None:
    *lines, last = listing(tmp_path, **({"COLUMNS": columns} if columns else {}))
    assert last == "0"
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == ["model", *(spec.name for spec in known_models())]
    llava = next(line for line in lines if line.startswith("llava "))
    assert "13.35 B" in llava
    assert ("24.9 GiB" in llava) is not bool(columns)
    if columns:
        assert max(map(len, lines)) <= 80
