"""kill -9 at any moment, Ctrl-C, two runs at once: no finished image is lost, and no damaged row is read."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from phasebench.datasets.coco import read_coco
from phasebench.datasets.sample import Sample
from phasebench.measurement.measure import Measurement, measure
from phasebench.measurement.packing import unpack
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support.pictures import write_pictures

IMAGES = 16
KILLS = 50
HANG_SECONDS = 1800
"""A process that takes longer hangs; no outcome depends on how long it takes."""

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return read_coco(write_pictures(tmp_path_factory.mktemp("killed") / "pics", IMAGES))


def measure_pictures(loaded: LoadedModel, samples: list[Sample], store: Path | None) -> Measurement:
    return measure(loaded, "pics", samples, Settings(store=store), lambda *_: None)


def write(loaded: LoadedModel, samples: list[Sample], store: Path, result: Path) -> None:
    measurement = measure_pictures(loaded, samples, store)
    result.write_bytes(pickle.dumps((measurement.curves.table, measurement.heatmap, measurement.notes)))


def start(loaded: LoadedModel, samples: list[Sample], store: Path, result: Path) -> BaseProcess:
    """A process that measures. It is forked from this one, so that it has the model already."""
    process = multiprocessing.get_context("fork").Process(target=write, args=(loaded, samples, store, result))
    process.start()
    return process


def count_rows(store: Path) -> int:
    """The number of rows in the store; each must be readable, at any moment."""
    paths = list(store.glob("*/*.npz"))
    for path in paths:
        unpack(path.read_bytes())
    return len(paths)


def wait_for_rows(process: BaseProcess, store: Path, count: int) -> None:
    """Wait until the process has written so many rows or has ended, however busy the machine is."""
    while process.is_alive() and len(list(store.glob("*/*.npz"))) < count:
        time.sleep(0.001)


@pytest.mark.slow
def test_fifty_killed_runs_lose_no_finished_image(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    expected = measure_pictures(tiny_llava, samples, None)
    store, rng, rows, kills_while_measuring = tmp_path / "store", random.Random(0), 0, 0
    for number in range(KILLS):
        process = start(tiny_llava, samples, store, tmp_path / "result")
        wait_for_rows(process, store, rows + rng.randrange(4))  # most processes have written rows then
        time.sleep(rng.uniform(0.0, 0.03))  # so that kills fall on any step; nothing depends on its length
        process.kill()
        process.join()
        rows_now = count_rows(store)
        assert rows_now >= rows
        kills_while_measuring += rows_now > rows
        rows = rows_now
        if rows >= IMAGES:
            store, rows = tmp_path / f"store{number}", 0
    assert kills_while_measuring >= KILLS / 2
    resumed = measure_pictures(tiny_llava, samples, store)
    assert resumed.stored == rows
    assert resumed.notes == []
    assert resumed.curves.table.equals(expected.curves.table)
    assert np.array_equal(resumed.heatmap, expected.heatmap)  # type: ignore[arg-type]


def accept_ctrl_c() -> None:
    """Let a child process react to Ctrl-C; processes that a shell starts in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


PAUSING = f"""
import time

def pytest_collection_finish():
    from phasebench.measurement import batches

    native, calls = batches.probed_pass, []

    def pause_after_some(*args, **kwargs):
        calls.append(1)
        if len(calls) > 8:
            time.sleep({HANG_SECONDS})  # until Ctrl-C, however late it comes
        return native(*args, **kwargs)

    batches.probed_pass = pause_after_some
"""


@pytest.mark.slow
def test_ctrl_c_with_workers_prints_what_is_kept_and_nothing_else(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to every process; warnings are errors here, as in many projects.

    The measuring worker pauses after some images, so that Ctrl-C always interrupts it.
    """
    write_pictures(tmp_path / "pics", IMAGES)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "pausing.py").write_text(PAUSING)
    store, log = tmp_path / "store", tmp_path / "log"
    command = [
        *("-m", "pytest", "--phasebench", "-n", "2", "-p", "pausing"),
        *("--model", "tiny-llava", "--dataset", "pics"),
    ]
    with log.open("w") as output, subprocess.Popen(
        [sys.executable, *command, "--store", str(store)],
        cwd=tmp_path, stdout=output, stderr=output, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=accept_ctrl_c,
    ) as run:  # fmt: skip
        while len(list(store.glob("*/*.npz"))) < 5:
            assert run.poll() is None, log.read_text()
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(HANG_SECONDS) == pytest.ExitCode.INTERRUPTED, log.read_text()
    text = log.read_text()
    assert f"interrupted; the images measured so far are kept in {store}; the same command resumes" in text
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    assert 5 <= count_rows(store) < IMAGES


def test_two_runs_at_once_on_one_store_agree(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    results = [tmp_path / "a.pickle", tmp_path / "b.pickle"]
    processes = [start(tiny_llava, samples, tmp_path / "store", result) for result in results]
    for process in processes:
        process.join(HANG_SECONDS)
        assert process.exitcode == 0
    (table, heatmap, notes), (second_table, second_heatmap, second_notes) = (
        pickle.loads(result.read_bytes())  # noqa: S301 - written by this test
        for result in results
    )
    assert notes == second_notes == []
    assert table.equals(second_table)
    assert np.array_equal(heatmap, second_heatmap)
    assert count_rows(tmp_path / "store") == IMAGES + 1
