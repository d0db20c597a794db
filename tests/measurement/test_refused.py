"""Images that a model or its processor refuses: they are named, and the others are measured without them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from phasebench.datasets.coco import read_coco
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError, RefusedError
from phasebench.measurement.measure import Measurement, measure
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support.pictures import write_pictures

Refuse = Callable[[LoadedModel, pytest.MonkeyPatch], None]


def by_processor(loaded: LoadedModel, patch: pytest.MonkeyPatch) -> None:
    """Qwen2-VL's processor refuses pictures that are 200 times as wide as high."""
    processed = loaded._processed

    def refuse(images: list[Image.Image]) -> Any:
        if any(image.getextrema() == ((0, 0),) * 3 for image in images):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return processed(images)

    patch.setattr(loaded, "_processed", refuse)


def by_model(loaded: LoadedModel, patch: pytest.MonkeyPatch) -> None:
    """LLaVA-NeXT refuses a shape if its configuration and its processor have other grids."""
    forward = loaded.model.forward

    def refuse(*args: Any, **options: Any) -> Any:
        pixels = options["pixel_values"]
        if (pixels.flatten(1).amax(1) < -1).any():
            raise RuntimeError("The expanded size of the tensor\nmust match the existing size")
        return forward(*args, **options)

    refuse.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    patch.setattr(loaded.model, "forward", refuse)


@pytest.fixture(params=[by_processor, by_model])
def picky(
    request: pytest.FixtureRequest, tiny_llava: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoadedModel]:
    """A model that refuses black images."""
    request.param(tiny_llava, monkeypatch)
    yield tiny_llava
    monkeypatch.undo()


@pytest.fixture
def images(tmp_path: Path) -> list[Sample]:
    return read_coco(write_pictures(tmp_path / "pics", 5))


def blacken(sample: Sample) -> None:
    Image.new("RGB", (96, 96)).save(sample.path)


def measured(loaded: LoadedModel, samples: list[Sample], **options: Any) -> Measurement:
    return measure(loaded, "pics", samples, Settings(**options), lambda _: None)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("batch", [1, 3, None])
def test_the_other_images_are_measured_as_if_alone(
    picky: LoadedModel, images: list[Sample], place: int, batch: int | None
) -> None:
    blacken(images[place])
    rest = [*images[:place], *images[place + 1 :]]
    without, alone = measured(picky, images, batch_size=batch), measured(picky, rest, batch_size=batch)
    (skip,) = without.refused
    assert (skip.id, skip.reason) == (images[place].id, "that the model refuses")
    assert skip.message.startswith(f"{images[place].path}: ")
    assert "\n" not in skip.message
    assert alone.refused == ()
    assert without.curves.items == alone.curves.items
    assert without.curves.provenance == alone.curves.provenance
    pd.testing.assert_frame_equal(without.curves.table, alone.curves.table)


def test_several_are_named(picky: LoadedModel, images: list[Sample]) -> None:
    for sample in (images[0], images[3]):
        blacken(sample)
    assert [skip.id for skip in measured(picky, images).refused] == [images[0].id, images[3].id]


def test_a_model_that_refuses_all_is_an_error(picky: LoadedModel, images: list[Sample]) -> None:
    for sample in images:
        blacken(sample)
    with pytest.raises(InputError, match=rf"refuses every image; {images[0].path}: "):
        measured(picky, images)


def test_an_error_of_the_probe_is_no_refusal(
    tiny_llava: LoadedModel, images: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("of ours")

    monkeypatch.setattr("phasebench.measurement.batches.probed_pass", broken)
    with pytest.raises(RuntimeError, match="of ours"):
        measured(tiny_llava, images)


def test_what_is_refused_has_its_own_error(picky: LoadedModel) -> None:
    with pytest.raises(RefusedError):
        dissect(picky.model, picky.inputs([Image.new("RGB", (96, 96))]))
