"""A model whose parameters FSDP2 shards over two processes has the curves of the whole model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phasebench.models.bundled.tiny import make_tiny_model
from tests.support.paths import ROOT

HANG_SECONDS = 1800


@pytest.mark.slow
def test_shards_give_the_curves_of_the_whole_model(cache: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.support.sharded", str(make_tiny_model("tiny-llava", cache))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    found = json.loads(line)
    assert found["shards"] == "DTensor"
    assert len(found["differences"]) > 10
    assert all(difference < 1e-6 for difference in found["differences"].values())
