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

COMPARED_KEYS = (
    "curves",
    "controls",
    "heatmap",
    "heatmaps",
    "words",
    "provenance",
    "images",
    "selftest",
    "stored",
)
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes")
TORCHRUN = ("torch.distributed.run", "--nproc-per-node")
HANG_SECONDS = 1800
"""A run that takes longer hangs; no outcome depends on how long it takes."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with pictures and a baseline, written by one process."""
    folder = tmp_path_factory.mktemp("project")
    write_pictures(folder / "pics", 7)
    process = run(folder, (), "one", "--snapshot-update", "--results", "one.json")
    assert process.returncode == 0, process.stdout
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
        timeout=HANG_SECONDS,
    )


def numbers(results: Path) -> dict[str, Any]:
    """The parts of a results file that do not depend on the number of processes."""
    (run_results,) = json.loads(results.read_text())["runs"]
    return {key: run_results[key] for key in COMPARED_KEYS}


@pytest.mark.slow
def test_accelerate_launch_reports_once_and_exactly_the_numbers_of_one_process(project: Path) -> None:
    done = run(project, (*ACCELERATE, "2"), "two", "--results", "two.json", "--junit-xml=two.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes" in done.stdout
    assert done.stdout.count("== phasebench tiny-llava/pics ==") == 1
    assert done.stdout.count(f"{DRIFT + FINDING + LATENCY} passed") == 1
    assert numbers(project / "two.json") == numbers(project / "one.json")
    assert (project / "two.xml").read_text().count("<testcase") == DRIFT + FINDING + LATENCY
    assert len(list((project / "two").glob("*/*.npz"))) == 8


OWN_STORES = """
import os
from dataclasses import replace
from phasebench.plugin.run import run_of
def pytest_sessionstart(session):
    run = run_of(session.config)
    run.settings = replace(run.settings, store=run.settings.store / os.environ["RANK"])
"""


@pytest.mark.slow
def test_torchrun_without_a_shared_folder_collects_the_rows(project: Path) -> None:
    """Each process keeps its rows in its own folder; in the end the first process has all rows."""
    (project / "own_stores.py").write_text(OWN_STORES)
    done = run(project, (*TORCHRUN, "3"), "three", "--results", "three.json", "-p", "own_stores")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(project / "three.json") == numbers(project / "one.json")
    assert [len(list((project / "three" / str(rank)).glob("*/*.npz"))) for rank in range(3)] == [8, 2, 2]


DYING = """
import os, signal
from phasebench.measurement import batches
native, calls = batches.probed_pass, []
def dying(*args, **kwargs):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return native(*args, **kwargs)
batches.probed_pass = dying
"""


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_finished_images_are_kept(project: Path) -> None:
    """The process dies at its third image, so at least its first two are in the store."""
    (project / "dying.py").write_text(DYING)
    process = run(project, (*TORCHRUN, "2"), "died", "-p", "dying")
    assert process.returncode == 1
    assert "SIGKILL" in process.stderr
    rows = len(list((project / "died").glob("*/*.npz")))
    assert rows >= 2
    process = run(project, (), "died", "--results", "resumed.json")
    assert process.returncode == 0, process.stdout
    assert f"{rows} images from the store" in process.stdout
    resumed, complete = numbers(project / "resumed.json"), numbers(project / "one.json")
    assert resumed.pop("stored") == rows
    assert resumed == {key: value for key, value in complete.items() if key != "stored"}


def test_options_that_several_processes_cannot_have_are_refused(tmp_path: Path) -> None:
    for args, message in (
        (("-n", "2"), "-n: pytest-xdist and a launcher's processes do not go together"),
        (("--max-memory", "cpu=1GiB"), "--max-memory: with several processes each holds the whole model"),
    ):
        process = run(tmp_path, (), "none", *args, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
        assert process.returncode == pytest.ExitCode.USAGE_ERROR
        assert message in process.stderr
