"""Several processes, one run: who measures what, and how the rows come together."""

from __future__ import annotations

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
from phasebench.measurement.batches import PassRunner, RefusedImages
from phasebench.measurement.row_store import Store
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import LoadedModel
from tests.support.paths import ROOT
from tests.support.pictures import write_pictures


class PassesWithoutModel:
    """Passes that measure nothing, for the exchange of rows alone."""

    def __init__(self, *, fails: bool = False) -> None:
        self.store = Store(None, {}, carry=True)
        self.done: list[Any] = []
        self.measured = 0
        self.refused: dict[str, str] = {}
        self.row_names: dict[tuple[str, ...], list[str]] = {}
        self._fails = fails

    def rows(self, batch: Sequence[Any], *, timed: bool) -> list[Any]:
        assert timed
        self.done.append(batch)
        if self._fails:
            raise ValueError("no such luck")
        return []


def share(passes: Any, batches: Sequence[Any]) -> None:
    """``shards.share`` with batches of anything."""
    shards.share(passes, batches, lambda *_: None, "m on d")


def gathering(values: list[Any]) -> Callable[[Any], list[Any]]:
    """A stand-in that records what a process sends; every process but the first receives nothing."""

    def gather(value: Any) -> list[Any]:
        values.append(value)
        return []

    return gather


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(shards, "_gather_everywhere", lambda label, value: [value, value])


def test_a_process_measures_every_nth_batch_and_leaves_the_report_to_the_first(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(shards, "_gather_first", gathering(sent))
    passes = PassesWithoutModel()
    with pytest.raises(shards.ShareMeasured):
        share(passes, ["a", "b", "c", "d"])
    assert passes.done == ["b", "d"]
    assert sent == [shards.Share({}, {}, None, "")]


def test_a_failure_is_sent_to_the_first_process_before_it_is_raised(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(shards, "_gather_first", gathering(sent))
    with pytest.raises(ValueError, match="no such luck"):
        share(PassesWithoutModel(fails=True), ["a", "b"])
    assert sent == [shards.Share({}, {}, "ValueError: no such luck", "")]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(shards, "_gather_first", lambda value: [value, *sent])
    with pytest.raises(InputError, match="process 1 of 2 failed: ValueError: no such luck"):
        share(PassesWithoutModel(), ["a", "b"])


def test_all_processes_begin_again_without_what_one_refused(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = PassesWithoutModel()
    passes.refused = {"wide": "too wide"}
    outcomes = [(False, {"high": "too high"})]
    exchanges = iter([[{}, {}], [*outcomes, (False, passes.refused)]])
    monkeypatch.setattr(shards, "_gather_everywhere", lambda *_: next(exchanges))
    with pytest.raises(RefusedImages) as refused:
        share(passes, ["a", "b"])
    assert refused.value.reasons == {"high": "too high", "wide": "too wide"}


def test_a_failure_goes_before_what_is_refused(second_of_two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = PassesWithoutModel(fails=True)
    passes.refused = {"wide": "too wide"}
    monkeypatch.setattr(shards, "_gather_first", gathering([]))
    with pytest.raises(ValueError, match="no such luck"):
        share(passes, ["a", "b"])


def test_the_failure_of_another_process_keeps_its_remedy(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    failed = shards.Share({}, {}, "InputError: memory runs out", "max_memory")
    monkeypatch.setattr(shards, "_gather_first", lambda value: [value, failed])
    with pytest.raises(InputError, match="process 1 of 2 failed: InputError: memory") as refusal:
        share(PassesWithoutModel(), ["a", "b"])
    assert refusal.value.remedy == "max_memory"


def test_rows_of_another_checkpoint_or_device_are_not_taken(
    second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes without a shared folder may have another copy; the first process would keep all as its own."""
    first = {"model": "m", "checkpoint": "new", "device": "H100"}
    monkeypatch.setattr(shards, "_gather_everywhere", lambda label, value: [first, value])
    passes = PassesWithoutModel()
    passes.store = Store(None, {**first, "checkpoint": "old"}, carry=True)
    with pytest.raises(InputError, match="not measure with the same checkpoint: number 0 new, number 1 old"):
        share(passes, ["a", "b"])


def test_the_first_process_prepares_no_image_that_another_measured(
    tiny_llava: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_coco(write_pictures(tmp_path / "pics", 4))
    anatomy = dissect(tiny_llava.model, tiny_llava.inputs([samples[0].open()]))
    batches = [samples[:2], samples[2:]]
    second = PassRunner(tiny_llava, anatomy, Store(None, {}, carry=True))
    rows = second.rows(batches[1])
    first = PassRunner(tiny_llava, anatomy, Store(None, {}, carry=True))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(shards, "_gather_everywhere", lambda label, value: [value, value])
    other = shards.Share(second.store.carried, second.row_names, None, "")
    monkeypatch.setattr(shards, "_gather_first", lambda value: [value, other])
    shards.share(first, batches, lambda *_: None, "m on d")
    assert first.measured == 2
    monkeypatch.setattr(Sample, "open", lambda _: pytest.fail("prepared once more"))
    assert [row.curves["inter"].tolist() for row in first.rows(batches[1])] == [
        row.curves["inter"].tolist() for row in rows
    ]
    assert len(first.rows(batches[0])) == 2


TWO_LABELS = """
import atexit, os
from torch import distributed
atexit.register(lambda: print(f"in the group at its end: {distributed.is_initialized()}"))
from phasebench.errors import InputError
from phasebench.measurement import shards
label = ["old on pics", "new on pics"][int(os.environ["RANK"])]
try:
    shards.meet(label)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_processes_that_measure_different_models_take_nothing_of_each_other(tmp_path: Path) -> None:
    """One that failed early is at its next model while the others wait for it: names of rows are alike."""
    script = tmp_path / "two_labels.py"
    script.write_text(TWO_LABELS)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    message = "no longer measure the same, number 0 old on pics, number 1 new on pics"
    assert done.stdout.count(message) == 2, done.stderr
    assert done.stdout.count("in the group at its end: False") == 2  # else gloo's threads may abort it
    assert done.returncode == 0, done.stderr
