"""The library call: the numbers of ``pytest --phasebench``, without pytest, files or traces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import phasebench
from phasebench import api
from phasebench.catalog import ATTENTION, CURVES, OF_CAPTIONS
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement import batches
from phasebench.measurement.measure import measure as measured_by_pytest
from phasebench.measurement.passes import Row, probed_pass
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support.paths import ROOT


def test_the_numbers_are_those_of_a_run(tiny: LoadedModel, samples: list[Sample]) -> None:
    captions = [sample.captions for sample in samples]
    run = measured_by_pytest(tiny, "pics", samples, Settings(), lambda done: None).curves
    paths = [sample.path for sample in samples]
    for images in (paths, [str(path) for path in paths], [sample.open() for sample in samples]):
        curves = api.measure(tiny.model, tiny.processor, images, captions, prompt=tiny.prompt)
        assert list(curves.items) == ["0", "1", "2", "3", "4"]
        assert curves.names == list(CURVES)
        assert np.array_equal(curves.table.to_numpy(), run.table.to_numpy(), equal_nan=True)


def test_each_process_of_a_launcher_measures_its_own_model(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a run of cases is shared: another process may do anything else while a notebook measures."""
    alone = phasebench.measure(
        tiny_llava.model, tiny_llava.processor, [samples[0].path], prompt=tiny_llava.prompt
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    one_of_two = phasebench.measure(
        tiny_llava.model, tiny_llava.processor, [samples[0].path], prompt=tiny_llava.prompt
    )
    assert one_of_two.table.equals(alone.table)


def test_findings_are_judged_without_pytest(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    images = [sample.path for sample in samples]
    model, processor, prompt = tiny_llava.model, tiny_llava.processor, tiny_llava.prompt
    curves = phasebench.measure(model, processor, images, prompt=prompt, batch_size="auto")
    evidence = phasebench.Evidence(curves, {})
    verdicts = {name: finding.verdict(evidence) for name, finding in phasebench.FINDINGS.items()}
    assert verdicts["lens_recall_peak"].outcome is phasebench.Outcome.UNDECIDED
    assert "not measured" in verdicts["lens_recall_peak"].detail
    assert np.isfinite(verdicts["inter_below_intra"].value)


def test_without_captions_there_is_everything_but_recall(
    tiny_llava: LoadedModel, samples: list[Sample]
) -> None:
    updates: list[tuple[int, int]] = []
    curves = phasebench.measure(
        tiny_llava.model, tiny_llava.processor, [samples[0].open()], prompt=tiny_llava.prompt,
        progress=lambda done, total: updates.append((done, total)),
    )  # fmt: skip
    empty = {name for name in curves.names if np.isnan(curves.array(name)).all()}
    assert empty == set(OF_CAPTIONS)
    assert np.isfinite(curves.array("inter")).all()
    assert np.isfinite(curves.array(ATTENTION[0])[:, 1:]).all()
    assert updates == [(0, 1), (1, 1)]
    assert curves.provenance["checkpoint"] == ""


def test_pictures_in_memory_have_digests_of_their_pixels_and_captions(samples: list[Sample]) -> None:
    images = [samples[0].open(), samples[0].open(), samples[1].open()]
    first, same, other = (sample.digest() for sample in api._samples(images, ["a", "a", "a"]))
    assert first == same != other
    assert api._samples(images[:1], ["b"])[0].digest() != first


def test_a_part_of_a_model_and_a_wrapper_are_refused(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    model, processor, image = tiny_llava.model, tiny_llava.processor, samples[0].open()
    with pytest.raises(InputError, match="LlavaModel gives no logits; give the whole model"):
        api.measure(model.model, processor, [image], prompt=tiny_llava.prompt)
    with pytest.raises(InputError, match=r"DataParallel has no configuration; .*\(model\.module\)"):
        api.measure(nn.DataParallel(model), processor, [image], prompt=tiny_llava.prompt)
    with pytest.raises(InputError, match="progress: give a function of two numbers"):
        api.measure(model, processor, [image], progress=True)  # type: ignore[arg-type]


def test_wrong_arguments_are_named(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    model, processor, image = tiny_llava.model, tiny_llava.processor, samples[0].open()
    with pytest.raises(InputError, match="captions: 2 for 1 images"):
        api.measure(model, processor, [image], ["a", "b"])
    with pytest.raises(InputError, match="there are no images to measure"):
        api.measure(model, processor, [])
    with pytest.raises(InputError, match="missing"):
        api.measure(model, processor, ["gone.png"], prompt=tiny_llava.prompt)
    model.train()
    try:
        with pytest.raises(InputError, match=r"training mode.*model\.eval"):
            api.measure(model, processor, [image])
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": [np.zeros((8, 8, 3))]}, "images: give PIL images or paths; image 0 is of type ndarray"),
        ({"captions": "a"}, "captions: give a list with one entry per image, not a single text"),
        ({"captions": [None]}, "captions: give a text or a list of texts for image 0, not None"),
        ({"captions": [[3]]}, "captions: give a text or a list of texts for image 0"),
        ({"batch_size": 0}, "batch_size: give 1 or more, or 'auto' for as many as fit, not 0"),
        ({"batch_size": "all"}, "batch_size: give 1 or more, or 'auto' for as many as fit, not 'all'"),
        ({"normed_last_layer": "on"}, "normed_last_layer: give True or False, not 'on'"),
        ({"lens_norm": "off"}, "lens_norm: give True or False, not 'off'"),
        ({"model": "folder"}, "model, processor: give a model and a processor with a tokenizer, not str and"),
        ({"processor": "folder"}, "model, processor: .* and str"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(
    tiny_llava: LoadedModel, samples: list[Sample], arguments: dict[str, Any], message: str
) -> None:
    defaults = {"model": tiny_llava.model, "processor": tiny_llava.processor, "images": [samples[0].path]}
    with pytest.raises(InputError, match=message):
        phasebench.measure(**{**defaults, **arguments})


def test_a_truncated_picture_is_named(tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path) -> None:
    path = tmp_path / "truncated.png"
    path.write_bytes(samples[0].path.read_bytes()[:-200])
    with Image.open(path) as truncated, pytest.raises(InputError, match="image 0: cannot be read"):
        phasebench.measure(tiny_llava.model, tiny_llava.processor, [truncated], prompt=tiny_llava.prompt)


def test_images_may_be_a_generator(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    paths = (sample.path for sample in samples[:2])
    curves = phasebench.measure(tiny_llava.model, tiny_llava.processor, paths, prompt=tiny_llava.prompt)
    assert list(curves.items) == ["0", "1"]


def test_a_single_image_is_refused(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="give a list of pictures, not a single one"):
        api.measure(tiny_llava.model, tiny_llava.processor, samples[0].path)  # type: ignore[arg-type]


def test_images_with_infinite_states_are_named(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*args: Any, **options: Any) -> list[Row]:
        rows = probed_pass(*args, **options)
        rows[0].curves["inter"][2:] = np.nan
        return rows

    monkeypatch.setattr(batches, "probed_pass", overflowing)
    curves = api.measure(tiny_llava.model, tiny_llava.processor, [samples[0].path], prompt=tiny_llava.prompt)
    assert "not finite from layer 2" in curves.provenance["broken"]["0"]
    assert curves.table.isna().all(axis=None)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_image_that_overflows_is_named_in_any_batch(
    tiny_llava: LoadedModel, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """White overflows in the third block, as a picture might in float16; the others do not."""
    is_white: list[Tensor] = []

    def note(_: nn.Module, __: Any, kwargs: Any) -> None:
        is_white[:] = [kwargs["pixel_values"].flatten(1).amin(1) > 1]

    def overflow(_: nn.Module, __: Any, result: Any) -> None:
        (result[0] if isinstance(result, tuple) else result)[is_white[0]] = torch.inf

    colours = ("red", "white", "green", "blue")
    pictures = [Image.new("RGB", (96, 96), colour) for colour in colours]
    hooks = [
        tiny_llava.model.register_forward_pre_hook(note, with_kwargs=True),
        tiny_llava.model.get_decoder().layers[2].register_forward_hook(overflow),
    ]
    try:
        curves = api.measure(
            tiny_llava.model, tiny_llava.processor, pictures, prompt=tiny_llava.prompt, batch_size=size
        )
    finally:
        for hook in hooks:
            hook.remove()
    assert list(curves.provenance["broken"]) == ["1"]
    assert "not finite from layer 3" in curves.provenance["broken"]["1"]
    assert np.isfinite(curves.array("inter")[[0, 2, 3]]).all()


FRESH = """
import sys, phasebench
assert set(phasebench.__all__) <= set(dir(phasebench))
assert not {"torch", "numpy", "pandas", "transformers", "PIL"} & {n.partition(".")[0] for n in sys.modules}
try:
    phasebench.nothing
except AttributeError as error:
    print(error)
"""


def test_every_public_name_is_there() -> None:
    assert all(getattr(phasebench, name) is not None for name in phasebench.__all__)


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRESH], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "module 'phasebench' has no attribute 'nothing'\n"), (
        done.stderr
    )


def test_the_public_names_are_listed_once_each() -> None:
    homes = [name for names in phasebench.MODULES.values() for name in names]
    assert sorted([*homes, "__version__"]) == sorted(phasebench.__all__)
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in phasebench.__all__ if f"`{name}" not in api] == []
