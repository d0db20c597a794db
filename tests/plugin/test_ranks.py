"""``accelerate launch`` and ``torchrun``: several processes, one report, one exit code, the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from phasebench.datasets.coco import read_coco
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement import shards
from phasebench.measurement.batches import PassRunner
from phasebench.measurement.row_store import Store
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import Loaded
from tests.conftest import DRIFT, FINDING, LATENCY, write_pictures
from tests.support.paths import ROOT

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
    started = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "pytest"]
    given = ["-p", "no:cacheprovider", "-p", "phasebench.plugin", "--phasebench", "--model", "tiny-llava"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "",
        **variables,
    }
    return subprocess.run(
        [*started, *given, "--dataset", "pics", "--store", store, *args],
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


class Alone:
    """Passes that measure nothing, for the exchange of rows alone."""

    def __init__(self, *, fails: bool = False) -> None:
        self.store = Store(None, {}, carry=True)
        self.done: list[Any] = []
        self.measured = 0
        self.row_names: dict[tuple[str, ...], list[str]] = {}
        self._fails = fails

    def rows(self, batch: Sequence[Any], *, timed: bool) -> list[Any]:
        assert timed
        self.done.append(batch)
        if self._fails:
            raise ValueError("no such luck")
        return []


def share(passes: Any, batches: Sequence[Any]) -> None:
    """Of anything but passes and samples."""
    shards.share(passes, batches, lambda *_: None, "m on d")


def gathering(given: list[Any]) -> Callable[[Any], list[Any]]:
    """What every process but the first gets for its own: nothing."""

    def gathered(own: Any) -> list[Any]:
        given.append(own)
        return []

    return gathered


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(shards, "_met", lambda place, own: [own, own])


def test_a_process_measures_every_nth_batch_and_leaves_the_report_to_the_first(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(shards, "_gathered", gathering(given))
    passes = Alone()
    with pytest.raises(shards.Elsewhere):
        share(passes, ["a", "b", "c", "d"])
    assert passes.done == ["b", "d"]
    assert given == [({}, {}, None)]


def test_a_failure_is_told_to_the_first_process_before_it_is_raised(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(shards, "_gathered", gathering(given))
    with pytest.raises(ValueError, match="no such luck"):
        share(Alone(fails=True), ["a", "b"])
    assert given == [({}, {}, "ValueError: no such luck")]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(shards, "_gathered", lambda own: [own, *given])
    with pytest.raises(InputError, match="process 1 of 2 failed: ValueError: no such luck"):
        share(Alone(), ["a", "b"])


def test_rows_of_another_checkpoint_or_device_are_not_taken(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes without a shared folder may have another copy; the first process would keep all as its own."""
    first = {"model": "m", "checkpoint": "new", "device": "H100"}
    monkeypatch.setattr(shards, "_met", lambda place, own: [first, own])
    passes = Alone()
    passes.store = Store(None, {**first, "checkpoint": "old"}, carry=True)
    with pytest.raises(InputError, match="not measure with the same checkpoint: number 0 new, number 1 old"):
        share(passes, ["a", "b"])


def test_the_first_process_prepares_no_image_that_another_measured(
    tiny_llava: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_coco(write_pictures(tmp_path / "pics", 4))
    anatomy = dissect(tiny_llava.model, tiny_llava.inputs([samples[0].open()]))
    every = [samples[:2], samples[2:]]
    second = PassRunner(tiny_llava, anatomy, Store(None, {}, carry=True))
    rows = second.rows(every[1])
    first = PassRunner(tiny_llava, anatomy, Store(None, {}, carry=True))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(shards, "_met", lambda place, own: [own, own])
    others = second.store.carried, second.row_names, None
    monkeypatch.setattr(shards, "_gathered", lambda own: [own, others])
    shards.share(first, every, lambda *_: None, "m on d")
    assert first.measured == 2
    monkeypatch.setattr(Sample, "open", lambda _: pytest.fail("prepared once more"))
    assert [row.curves["inter"].tolist() for row in first.rows(every[1])] == [
        row.curves["inter"].tolist() for row in rows
    ]
    assert len(first.rows(every[0])) == 2


APART_FROM = """
import atexit, os
from torch import distributed
atexit.register(lambda: print(f"in the group at its end: {distributed.is_initialized()}"))
from phasebench.errors import InputError
from phasebench.measurement import shards
place = ["old on pics", "new on pics"][int(os.environ["RANK"])]
try:
    shards.agreed(4, place)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_processes_that_are_not_at_the_same_place_take_nothing_of_each_other(tmp_path: Path) -> None:
    """One that failed early is at its next model while the others wait for it: names of rows are alike."""
    script = tmp_path / "apart_from.py"
    script.write_text(APART_FROM)
    done = subprocess.run(
        [sys.executable, "-m", TORCHRUN[0], "--standalone", TORCHRUN[1], "2", str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = "no longer measure the same, number 0 old on pics, number 1 new on pics"
    assert done.stdout.count(told) == 2, done.stderr
    assert done.stdout.count("in the group at its end: False") == 2  # else gloo's threads may abort it
    assert done.returncode == 0, done.stderr


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for args, said in (
        (("-n", "2"), "-n: pytest-xdist and a launcher's processes do not go together"),
        (("--max-memory", "cpu=1GiB"), "--max-memory: with several processes each holds the whole model"),
    ):
        refused = run(tmp_path, (), "none", *args, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
        assert refused.returncode == pytest.ExitCode.USAGE_ERROR
        assert said in refused.stderr
