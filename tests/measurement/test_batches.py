"""Batches: their sizes, memory that runs out, and that no image is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phasebench.datasets.coco import read_coco
from phasebench.datasets.sample import Sample
from phasebench.measurement import batches as batching
from phasebench.measurement.batches import split_into_batches
from phasebench.measurement.measure import Measurement, measure
from phasebench.measurement.passes import Row, probed_pass
from phasebench.models.loading import LoadedModel
from phasebench.settings import BatchSize, Settings
from tests.support.pictures import write_pictures

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def sizes(count: int, size: BatchSize, device: torch.device) -> list[int]:
    samples: list[Any] = list(range(count))
    batches = split_into_batches(samples, size, device)
    assert [sample for batch in batches for sample in batch] == samples
    return list(map(len, batches))


def test_the_usual_size_is_that_of_the_device() -> None:
    assert sizes(3, None, CPU) == [1, 1, 1]
    assert sizes(18, None, GPU) == [8, 8, 2]


def test_a_given_size_is_taken_everywhere() -> None:
    assert sizes(7, 3, CPU) == sizes(7, 3, GPU) == [3, 3, 1]


def test_automatic_batches_grow() -> None:
    assert sizes(20, "auto", CPU) == [1, 2, 4, 8, 5]
    assert sizes(300, "auto", GPU)[-3:] == [64, 64, 300 - 127 - 128]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """A function that limits the memory to some images a pass, and returns the sizes of passes to come."""

    def limited(fitting: int) -> list[int]:
        tried: list[int] = []

        def measured(anatomy: Any, inputs: dict[str, Tensor], **choices: bool) -> list[Row]:
            tried.append(len(inputs["input_ids"]))
            if tried[-1] > fitting:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return probed_pass(anatomy, inputs, **choices)

        monkeypatch.setattr(batching, "probed_pass", measured)
        return tried

    return limited


def measured(loaded: LoadedModel, samples: list[Sample], store: Path, **options: Any) -> Measurement:
    settings = Settings(device="cpu", batch_size="auto", store=store, **options)
    return measure(loaded, "pics", samples, settings, lambda _: None)


def test_no_measured_image_is_thrown_away(
    tiny_llava: LoadedModel, tmp_path: Path, passes: Callable[[int], list[int]]
) -> None:
    samples = read_coco(write_pictures(tmp_path / "pics", 9))
    tried = passes(64)
    measurement = measured(tiny_llava, samples, tmp_path / "store")
    assert tried == [1, 2, 4, 2, 1]  # the last one is the blank image
    assert measurement.curves.provenance["batch_size"] == 4


def test_the_next_run_makes_the_same_batches_and_measures_nothing(
    tiny_llava: LoadedModel, tmp_path: Path, passes: Callable[[int], list[int]]
) -> None:
    samples = read_coco(write_pictures(tmp_path / "pics", 14))
    tried = passes(3)
    first = measured(tiny_llava, samples, tmp_path / "store")
    assert tried == [1, 2, 4, 2, 2, 2, 2, 2, 1, 1]
    assert first.curves.provenance["batch_size"] == 2
    tried = passes(64)  # more memory than before
    again = measured(tiny_llava, samples, tmp_path / "store")
    assert tried == []
    assert again.stored == 14
    assert again.curves.table.equals(first.curves.table)


def test_a_fresh_run_forgets_how_much_memory_there_was(
    tiny_llava: LoadedModel, tmp_path: Path, passes: Callable[[int], list[int]]
) -> None:
    samples = read_coco(write_pictures(tmp_path / "pics", 7))
    passes(2)
    measured(tiny_llava, samples, tmp_path / "store")
    tried = passes(64)
    measured(tiny_llava, samples, tmp_path / "store", fresh=True)
    assert tried == [1, 2, 4, 1]
