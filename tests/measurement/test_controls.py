"""Controls: what they change, and that they leave the model as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phasebench.datasets.coco import read_coco
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement import batches as measuring
from phasebench.measurement import controls
from phasebench.measurement import measure as running
from phasebench.measurement.batches import PassRunner, ProgressUpdate
from phasebench.measurement.controls import (
    _full_attention,
    _with_caption,
    blank,
    reinitialised,
    text_against_text,
    untrained_projector,
)
from phasebench.measurement.measure import measure
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.row_store import Store
from phasebench.models.anatomy.adapter import Anatomy, dissect
from phasebench.models.anatomy.parts import find_projector, sequence_model
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support import zoo
from tests.support.pictures import write_pictures


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return read_coco(write_pictures(tmp_path / "pics", 3))


def run(loaded: LoadedModel, samples: list[Sample], **settings: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return measure(loaded, "pics", samples, Settings(**settings), lambda *_: None)  # type: ignore[arg-type]


def test_a_reinitialised_projector_is_put_back_to_the_last_bit(tiny: LoadedModel) -> None:
    projector = find_projector(tiny.model)
    before = [parameter.clone() for parameter in projector.parameters()]
    with reinitialised(projector, 0):
        assert not all(torch.equal(a, b) for a, b in zip(before, projector.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, projector.parameters(), strict=True))


def test_a_norm_in_a_reinitialised_projector_still_passes_signals() -> None:
    module = torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.Linear(4, 4))
    with torch.no_grad(), reinitialised(module, 0):
        assert module(torch.randn(2, 4)).abs().min() > 0


def test_the_seed_decides_the_new_projector(tiny: LoadedModel) -> None:
    projector = find_projector(tiny.model)

    def drawn(seed: int) -> list[torch.Tensor]:
        with reinitialised(projector, seed):
            return [parameter.clone() for parameter in projector.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


def test_a_blank_image_has_the_layout_of_any_image(tiny: LoadedModel, samples: list[Sample]) -> None:
    anatomy = dissect(tiny.model, tiny.inputs([samples[0].open()]))
    row = blank(PassRunner(tiny, anatomy, Store(None, {})), (96, 96))
    assert row.layout == run(tiny, samples).curves.provenance["layout"]
    assert np.isfinite(row.curves["inter"]).all()


def test_only_the_blank_control_unless_asked(tiny: LoadedModel, samples: list[Sample]) -> None:
    assert set(run(tiny, samples).controls) == {"blank"}
    assert set(run(tiny, samples, controls=True).controls) == {"blank", "projector", "text"}


def test_controls_change_no_curve(tiny: LoadedModel, samples: list[Sample]) -> None:
    without, with_them = run(tiny, samples), run(tiny, samples, controls=True)
    assert without.curves.table.equals(with_them.curves.table)


def test_another_projector_gives_other_curves(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    anatomy = dissect(tiny_llava.model, tiny_llava.inputs([samples[0].open()]))
    rows = list(untrained_projector(PassRunner(tiny_llava, anatomy, Store(None, {})), samples, seed=0))
    assert len(rows) == 3
    assert not np.allclose(
        rows[0].curves["inter"], run(tiny_llava, samples).curves.array("inter")[0], atol=1e-3
    )


def test_a_caption_stands_where_the_image_stood(tiny: LoadedModel, samples: list[Sample]) -> None:
    inputs = tiny.inputs([samples[0].open()])
    image_token = dissect(tiny.model, inputs).image_token
    assert image_token is not None
    positions, ids = _with_caption(tiny, inputs["input_ids"][0], "a cat on a blue background", image_token)
    words = tiny.processor.tokenizer.convert_ids_to_tokens(ids[0][positions.visual_BN[0]].tolist())
    assert words == ["a", "cat", "on", "a", "blue", "background"]
    assert image_token not in ids
    assert int(positions.last_B[0]) == ids.shape[1] - 1
    assert int(positions.visual_BN[0].nonzero()[0]) == int(
        (inputs["input_ids"][0] == image_token).nonzero()[0]
    )


def test_an_empty_caption_is_not_used_as_text(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    anatomy = dissect(tiny_llava.model, tiny_llava.inputs([samples[0].open()]))
    captioned = [replace(sample, captions=("", "  ", "a red dog")) for sample in samples]
    rows = list(text_against_text(PassRunner(tiny_llava, anatomy, Store(None, {})), captioned, seed=0))
    assert all(np.isfinite(row.curves["inter"]).all() for row in rows)


@pytest.mark.parametrize(
    ("name", "sees_last"),
    [("paligemma", True), ("paligemma/gemma2", True), ("gemma3", False), ("gemma4_unified", False)],
)
def test_text_attends_to_what_the_models_own_prompt_attends_to(name: str, sees_last: bool) -> None:
    """In PaliGemma the first position sees the last one; Gemma 2's decoder by itself would hide it."""
    with zoo.quiet():
        specimen = zoo.specimen(name)
        decoder = sequence_model(specimen.model)
        first: list[Tensor] = []
        decoder.register_forward_hook(lambda _, __, out: first.append(out.last_hidden_state[0, 0].clone()))
        for word in (11, 12):
            ids = specimen.inputs["input_ids"].clone()
            ids[0, -1] = word
            text = ids.masked_fill(ids == specimen.model.config.image_token_id, 13)
            specimen.model(**{**specimen.inputs, "input_ids": ids}, use_cache=False)
            decoder(input_ids=text, use_cache=False, **_full_attention(specimen.model, text))
    (own_before, text_before, own_after, text_after) = first
    assert torch.allclose(own_before, own_after, atol=1e-3) is not sees_last
    assert torch.allclose(text_before, text_after, atol=1e-3) is not sees_last


def test_text_against_text_needs_no_picture(tiny: LoadedModel, samples: list[Sample]) -> None:
    anatomy = dissect(tiny.model, tiny.inputs([samples[0].open()]))
    rows = text_against_text(PassRunner(tiny, anatomy, Store(None, {})), samples, seed=0)
    assert all(np.isfinite(row.curves["inter"]).all() for row in rows)


def test_provenance_says_what_was_measured(tiny: LoadedModel, samples: list[Sample]) -> None:
    provenance = run(tiny, samples, batch_size=2, seed=3).curves.provenance
    keys = ("model", "dataset", "seed", "batch_size", "images")
    assert [provenance[key] for key in keys] == [tiny.name, "pics", 3, 2, 3]
    assert provenance["prompt"] == tiny.prompt
    assert provenance["dtype"] == "float32"
    assert provenance["layout"]["text"] == 9


def test_the_heatmap_is_the_mean_over_images(tiny: LoadedModel, samples: list[Sample]) -> None:
    measurement = run(tiny, samples)
    assert measurement.heatmap is not None
    assert measurement.heatmap.shape == (6, measurement.curves.provenance["layout"]["length"])
    totals = measurement.curves.mean("total")[1:]
    assert np.allclose(measurement.heatmap.sum(axis=1), totals, rtol=1e-3)  # norms are kept to three digits


def test_recall_is_measured_against_own_and_other_captions(tiny: LoadedModel, samples: list[Sample]) -> None:
    curves = run(tiny, samples).curves
    own, other, lift = (curves.array(name) for name in ("recall", "recall_other", "lift"))
    assert np.allclose(lift, own - other)
    assert ((own >= 0) & (own <= 1)).all()


def test_impossible_controls_are_refused_before_anything_is_measured(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(measuring, "probed_pass", never)
    monkeypatch.setattr(controls, "find_projector", lambda _: torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(InputError, match="its projector is offloaded") as refusal:
        run(tiny_llava, samples, controls=True)
    assert refusal.value.remedy == "controls"


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_the_numbers_stay(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(tiny_llava, samples, batch_size=3)
    sizes: list[int] = []

    def small(anatomy: Anatomy, inputs: dict[str, torch.Tensor], **kwargs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return probed_pass(anatomy, inputs, **kwargs)

    monkeypatch.setattr(measuring, "probed_pass", small)
    halved = run(tiny_llava, samples, batch_size=3)
    assert sizes == [3, 1, 1, 1, 1]  # three do not fit, and are not tried again; the last is the blank one
    assert halved.notes == ["memory ran out with 3 images per pass; went on with 1"]
    assert np.allclose(halved.curves.array("inter"), expected.curves.array("inter"), atol=1e-5)
    assert list(halved.curves.items) == list(expected.curves.items)
    assert (expected.curves.provenance["batch_size"], halved.curves.provenance["batch_size"]) == (3, 1)


def test_plain_seconds_are_paired_with_those_of_the_same_images(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run's second dataset has rows of the first, whose plain pass may not have been timed."""
    monkeypatch.setattr(measuring, "TIMED_BATCHES", 1)
    settings, run_rows = Settings(store=tmp_path), set[str]()
    measure(tiny_llava, "first", samples[:2], settings, lambda *_: None, run_rows)
    second = measure(tiny_llava, "second", samples[1:], settings, lambda *_: None, run_rows)
    assert len(second.seconds) == 2
    assert [seconds for seconds, _ in second.paired_seconds] == second.seconds[1:]


def test_rows_of_a_halved_batch_are_not_those_of_the_whole_one(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a device with more room the whole batch is measured: its numbers differ in their last bits."""
    with monkeypatch.context() as small:
        small.setattr(measuring, "run_if_it_fits", lambda work, images: work() if images < 3 else None)
        run(tiny_llava, samples, batch_size=3, store=tmp_path)
        again = run(tiny_llava, samples, batch_size=3, store=tmp_path)
        assert again.stored == 3
    whole = run(tiny_llava, samples, batch_size=3, store=tmp_path)
    assert whole.stored == 0
    assert run(tiny_llava, samples, batch_size=3, store=tmp_path).stored == 3


def test_a_quantised_projector_is_refused_as_a_control(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = torch.nn.Linear(2, 2)
    projector.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    monkeypatch.setattr(controls, "find_projector", lambda _: projector)
    with pytest.raises(InputError, match="its projector is quantised") as refusal:
        run(tiny_llava, samples, controls=True)
    assert refusal.value.remedy == "controls"


def test_progress_of_every_control_counts_what_is_measured(
    tiny_llava: LoadedModel, samples: list[Sample]
) -> None:
    updates: list[ProgressUpdate] = []
    measure(tiny_llava, "pics", samples, Settings(controls=True), updates.append)
    last = {update.control: update.measured for update in updates}
    assert last == {"": 3, "projector": 3, "text": 3}


def test_an_image_without_values_is_not_in_the_mean_heatmap(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(tiny_llava, samples[1:]).heatmap

    def with_nan(anatomy: Anatomy, inputs: dict[str, torch.Tensor], **kwargs: Any) -> Any:
        (row,) = probed_pass(anatomy, inputs, **kwargs)
        calls.append(row)
        if len(calls) == 1:
            row.curves["inter"][1:] = row.norms[:] = np.nan
        return [row]

    calls: list[Any] = []
    monkeypatch.setattr(measuring, "probed_pass", with_nan)
    measurement = run(tiny_llava, samples)
    assert list(measurement.broken) == [samples[0].id]
    assert measurement.heatmap == pytest.approx(expected)


@pytest.mark.parametrize("part", ["self_test", "plain_pass"])
def test_the_run_goes_on_where_only_the_self_test_or_the_plain_pass_runs_out_of_memory(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The self-test keeps all logits: a batch that a pass takes may be too much for it."""
    module: Any = running if part == "self_test" else measuring
    native, sizes = getattr(module, part), list[int]()

    def small(anatomy: Anatomy, inputs: dict[str, torch.Tensor]) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return native(anatomy, inputs)

    monkeypatch.setattr(module, part, small)
    measurement = run(tiny_llava, samples, batch_size=3)
    assert len(measurement.curves.items) == len(samples)
    assert np.isfinite(measurement.curves.array("inter")).all()
    assert sizes[0] == 3
    assert (sizes[-1] == 1) if part == "self_test" else (measurement.plain_seconds == [])


def test_a_single_image_that_does_not_fit_into_memory_is_an_error(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(measuring, "probed_pass", full)
    with pytest.raises(InputError, match="memory runs out with one image: ") as refusal:
        run(tiny_llava, samples)
    assert refusal.value.remedy == "max_memory"
