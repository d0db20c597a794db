"""``accelerate launch`` and ``torchrun``: several processes, one report, one exit code, the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.pictures import write_pictures
from tests.support.runs import DRIFT, FINDING, LATENCY

SAME = ("curves", "controls", "heatmap", "heatmaps", "words", "provenance", "images", "selftest", "stored")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes")
TORCHRUN = ("torch.distributed.run", "--nproc-per-node")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with pictures and a baseline, written by one process."""
    folder = tmp_path_factory.mktemp("project")
    write_pictures(folder / "pics", 7)
    made = run(folder, (), "one", "--snapshot-update", "--results", "one.json")
    assert made.returncode == 0, made.stdout
    return folder


def run(
    folder: Path, launcher: Sequence[str], store: str, *args: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The plugin on seven pictures, through a launcher or without one."""
    command = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "pytest"]
    options = ["-p", "no:cacheprovider", "-p", "phasebench.plugin", "--phasebench", "--model", "tiny-llava"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "",
        **variables,
    }
    return subprocess.run(
        [*command, *options, "--dataset", "pics", "--store", store, *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def numbers(results: Path) -> dict[str, Any]:
    (found,) = json.loads(results.read_text())["runs"]
    return {key: found[key] for key in SAME}


@pytest.mark.slow
def test_accelerate_launch_reports_once_and_to_the_last_bit_what_one_process_does(project: Path) -> None:
    done = run(project, (*ACCELERATE, "2"), "two", "--results", "two.json", "--junit-xml=two.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes" in done.stdout
    assert done.stdout.count("== phasebench tiny-llava/pics ==") == 1
    assert done.stdout.count(f"{DRIFT + FINDING + LATENCY} passed") == 1
    assert numbers(project / "two.json") == numbers(project / "one.json")
    assert (project / "two.xml").read_text().count("<testcase") == DRIFT + FINDING + LATENCY
    assert len(list((project / "two").glob("*/*.npz"))) == 8


APART = """
import os
def pytest_configure(config):
    config.option.store = config.option.store / os.environ["RANK"]
"""


@pytest.mark.slow
def test_torchrun_without_a_shared_folder_brings_the_rows_together(project: Path) -> None:
    """Each process keeps its rows in its own folder; the first one's has all of them in the end."""
    (project / "apart.py").write_text(APART)
    done = run(project, (*TORCHRUN, "3"), "three", "--results", "three.json", "-p", "apart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(project / "three.json") == numbers(project / "one.json")
    assert [len(list((project / "three" / str(rank)).glob("*/*.npz"))) for rank in range(3)] == [8, 2, 2]


DYING = """
import os, signal
native, calls = batches.probed_pass, []
def dying(*args, **kwargs):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return native(*args, **kwargs)
batches.probed_pass = dying
"""


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_the_rest_is_kept(project: Path) -> None:
    (project / "dying.py").write_text(DYING)
    died = run(project, (*TORCHRUN, "2"), "died", "-p", "dying")
    assert died.returncode == 1
    assert "SIGKILL" in died.stderr
    kept = len(list((project / "died").glob("*/*.npz")))
    assert kept >= 2
    resumed = run(project, (), "died", "--results", "resumed.json")
    assert resumed.returncode == 0, resumed.stdout
    assert f"{kept} images from the store" in resumed.stdout
    found, whole = numbers(project / "resumed.json"), numbers(project / "one.json")
    assert found.pop("stored") == kept
    assert found == {key: value for key, value in whole.items() if key != "stored"}


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for args, message in (
        (("-n", "2"), "-n: pytest-xdist and a launcher's processes do not go together"),
        (("--max-memory", "cpu=1GiB"), "--max-memory: with several processes each holds the whole model"),
    ):
        refused = run(tmp_path, (), "none", *args, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
        assert refused.returncode == pytest.ExitCode.USAGE_ERROR
        assert message in refused.stderr
