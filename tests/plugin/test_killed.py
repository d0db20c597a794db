"""kill -9 at any moment, Ctrl-C, and two runs at once: no finished image is lost, nothing wrong is read."""

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

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return read_coco(write_pictures(tmp_path_factory.mktemp("killed") / "pics", IMAGES))


def measured(loaded: LoadedModel, samples: list[Sample], store: Path | None) -> Measurement:
    return measure(loaded, "pics", samples, Settings(store=store), lambda *_: None)


def write(loaded: LoadedModel, samples: list[Sample], store: Path, result: Path) -> None:
    found = measured(loaded, samples, store)
    result.write_bytes(pickle.dumps((found.curves.table, found.heatmap, found.notes)))


def start(loaded: LoadedModel, samples: list[Sample], store: Path, result: Path) -> BaseProcess:
    """A process that has the model already: forked from this one, which has no other threads at work."""
    process = multiprocessing.get_context("fork").Process(target=write, args=(loaded, samples, store, result))
    process.start()
    return process


def whole_rows(store: Path) -> int:
    """How many rows there are; each must read back whole, at any moment."""
    paths = list(store.glob("*/*.npz"))
    for path in paths:
        unpack(path.read_bytes())
    return len(paths)


def wait_for_rows(process: BaseProcess, store: Path, count: int) -> None:
    """Until a run has written so many: by its own progress, however busy the machine is."""
    while process.is_alive() and len(list(store.glob("*/*.npz"))) < count:
        time.sleep(0.001)


@pytest.mark.slow
def test_fifty_killed_runs_lose_no_finished_image(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    expected = measured(tiny_llava, samples, None)
    store, rng, kept, grown = tmp_path / "store", random.Random(0), 0, 0
    for number in range(KILLS):
        process = start(tiny_llava, samples, store, tmp_path / "result")
        wait_for_rows(process, store, kept + rng.randrange(4))
        time.sleep(rng.uniform(0.0, 0.03))
        process.kill()
        process.join()
        now = whole_rows(store)
        assert now >= kept
        grown += now > kept
        kept = now
        if kept >= IMAGES:
            store, kept = tmp_path / f"store{number}", 0
    assert grown >= KILLS / 2  # the kills did fall into the measuring
    resumed = measured(tiny_llava, samples, store)
    assert resumed.stored == kept
    assert resumed.notes == []
    assert resumed.curves.table.equals(expected.curves.table)
    assert np.array_equal(resumed.heatmap, expected.heatmap)  # type: ignore[arg-type]


def heed_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so would what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_with_workers_says_what_is_kept_and_nothing_else(tmp_path: Path) -> None:
    """A terminal sends it to every process; warnings are errors here, as in many projects."""
    write_pictures(tmp_path / "pics", 200)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    store, log = tmp_path / "store", tmp_path / "log"
    command = ["-m", "pytest", "--phasebench", "-n", "2", "--model", "tiny-llava", "--dataset", "pics"]
    with log.open("w") as output, subprocess.Popen(
        [sys.executable, *command, "--store", str(store)],
        cwd=tmp_path, stdout=output, stderr=output, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=heed_ctrl_c,
    ) as run:  # fmt: skip
        while len(list(store.glob("*/*.npz"))) < 5:
            assert run.poll() is None, log.read_text()
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(100) == pytest.ExitCode.INTERRUPTED, log.read_text()
    told = log.read_text()
    assert f"interrupted; the images measured so far are kept in {store}; the same command resumes" in told
    assert "INTERNALERROR" not in told
    assert "Traceback" not in told
    assert whole_rows(store) < 200


def test_two_runs_at_once_on_one_store_agree(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    results = [tmp_path / "a.pickle", tmp_path / "b.pickle"]
    both = [start(tiny_llava, samples, tmp_path / "store", result) for result in results]
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    (table, heatmap, notes), (other, its_heatmap, its_notes) = (
        pickle.loads(result.read_bytes())  # noqa: S301 - written by this test
        for result in results
    )
    assert notes == its_notes == []
    assert table.equals(other)
    assert np.array_equal(heatmap, its_heatmap)
    assert whole_rows(tmp_path / "store") == IMAGES + 1
