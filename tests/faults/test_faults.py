"""The corpus of faults, with some of them on the tiny models: what is caught, restored and reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faults import benign, corpus, table
from tests.faults.benign import VariationResult, harmless_variations
from tests.faults.catalogue import FAULTS, MODULES
from tests.faults.harness import SoundModel, apply_fault, measure_until_drift, scenes
from tests.faults.kinds import ALL_BLOCKS, BLIP, EVERYWHERE, FIRST, LLAVA, Fault, names
from tests.faults.outcome import Outcome
from tests.faults.patient import (
    Patient,
    block_number,
    copy_checkpoint,
    edit_json,
    noise,
    random_weights_like,
    set_value,
)
from tests.faults.small import round_mantissa

CAUGHT = (
    "image mean wrong or dropped", "channels in another order (BGR)", "turned, as by a lost EXIF mark",
    "image tokens in another order", "vision features of another layer", "projector transposed",
    "image features scaled", "two blocks swapped", "a block skipped", "RoPE scaled",
    "heads grouped otherwise (GQA)", "causal mask lost", "LoRA merged with the wrong sign", "weights in int8",
    "noise on the projector", "averaged with another model", "padding before the prompt that no mask hides",
)  # fmt: skip
REFUSED = ("image tokens too many or too few in the prompt", "a weight overflows", "NaN in one weight")


def find_fault(name: str, family: str = LLAVA) -> Fault:
    return next(fault for fault in FAULTS if (fault.name, fault.family) == (name, family))


@pytest.fixture(scope="module")
def sound_models(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SoundModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASEBENCH_CACHE", str(cache))
        samples = scenes(cache, 4)
        return {
            LLAVA: SoundModel.measure("tiny-llava", cache, samples),
            BLIP: SoundModel.measure("tiny-instructblip", cache, samples),
        }


@pytest.mark.parametrize("name", CAUGHT)
def test_a_fault_is_caught_at_the_first_image(sound_models: dict[str, SoundModel], name: str) -> None:
    fault = find_fault(name)
    result = apply_fault(sound_models[LLAVA], fault, len(fault.severities) - 1)
    assert result.images == 1
    assert result.excess > 10
    assert result.has_right_cause, result.cause


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_refused(sound_models: dict[str, SoundModel], name: str) -> None:
    result = apply_fault(sound_models[LLAVA], find_fault(name), 1)
    assert (result.images, bool(result.refusal), result.cause) == (0, True, "")


def test_faults_of_a_q_former_are_caught(sound_models: dict[str, SoundModel]) -> None:
    result = apply_fault(sound_models[BLIP], find_fault("noise on the Q-Former", BLIP), 1)
    assert result.images == 1
    assert result.has_right_cause


def test_a_model_without_a_fault_has_no_drift(sound_models: dict[str, SoundModel]) -> None:
    sound_model = sound_models[LLAVA]
    result = measure_until_drift(
        sound_model, sound_model.loaded, fault="none", family=LLAVA, label="", severity=0, severities=1
    )
    assert result.images is None
    assert result.excess < 1
    assert not result.cause


def test_every_fault_in_memory_is_undone(sound_models: dict[str, SoundModel]) -> None:
    """Also faults that need models of other sizes: the weights are as before."""
    for sound_model in sound_models.values():
        patient = sound_model.patient()
        before = {name: value.clone() for name, value in sound_model.loaded.model.state_dict().items()}
        for fault in [
            fault for fault in FAULTS if not fault.in_files and sound_models[fault.family] is sound_model
        ]:
            try:
                fault.change(patient, fault.severities[-1])
            except (ValueError, RuntimeError, IndexError):  # another prompt, another size
                continue
            finally:
                patient.heal()
        after = sound_model.loaded.model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not patient.loaded.pictures
        assert not patient.loaded.tensors
        assert patient.loaded.prompt == sound_model.loaded.prompt


def test_the_catalogue_is_complete() -> None:
    keys = [(fault.family, fault.name) for fault in FAULTS]
    assert len(set(keys)) == len(keys) >= 40
    assert all(2 <= len(fault.severities) <= 3 for fault in FAULTS)
    assert len(MODULES) == 6
    labels = [[fault.label(k) for k in range(len(fault.severities))] for fault in FAULTS]
    assert all(len(set(group)) == len(group) for group in labels)


def test_blocks_are_counted_from_one() -> None:
    assert [block_number(depth, 30) for depth in (0.0, 0.5, 1.0)] == [1, 15, 30]
    assert find_fault("a block skipped").expected_parts(0, 30) == ("block 30",)
    assert find_fault("two blocks swapped").expected_parts(2, 30) == ("block 7",)


@pytest.mark.parametrize(
    ("cause", "part", "right"),
    [
        ("block 15, its attention or what it reads", "block 15", True),
        ("block 15, its attention or what it reads", "block 1", False),
        ("at or before block 18 (the difference there is only 2 x allowed)", "block 15", True),
        ("at or before block 18 (the difference there is only 2 x allowed)", "block 1", False),
        ("at or before block 14 (the difference there is only 2 x allowed)", "block 15", False),
        ("at or before block 4 (the difference there is only 2 x allowed)", FIRST, True),
        ("everywhere: precision, or a change of all blocks", FIRST, False),
        ("everywhere: precision, or a change of all blocks", EVERYWHERE, True),
    ],
)
def test_a_cause_at_or_before_a_block_is_right_if_the_block_is_near(
    cause: str, part: str, right: bool
) -> None:
    assert names(cause, part) == right


def test_a_fault_of_all_blocks_may_be_named_everywhere() -> None:
    lost_mask = find_fault("causal mask lost")
    assert [lost_mask.expected_parts(k, 30) for k in range(3)] == [(FIRST,), (FIRST,), ALL_BLOCKS]


def test_a_kept_outcome_is_judged_again_without_measuring(sound_models: dict[str, SoundModel]) -> None:
    """Its differences survive the file; the cause and what is expected come from the present rule."""
    fault = find_fault("a block skipped")
    result = apply_fault(sound_models[LLAVA], fault, 1)
    kept = replace(Outcome(**json.loads(json.dumps(result.as_dict()))), cause="another", expected=["another"])
    again = kept.judged_again(fault.expected_parts)
    assert (again.cause, tuple(again.expected)) == (result.cause, result.expected)
    assert result.has_right_cause


def test_inputs_are_rounded_as_in_a_narrow_format() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(round_mantissa(values, 7), values.bfloat16().float(), rtol=2**-8)
    assert set((round_mantissa(values, 10).view(torch.int32) & 0x1FFF).tolist()) == {0}


def test_noise_has_its_norm_and_a_random_weight_its_standard_deviation() -> None:
    weight = 3 * torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    assert float(noise(weight, 0.01).norm() / weight.norm()) == pytest.approx(0.01)
    assert float(random_weights_like(weight).std()) == pytest.approx(float(weight.std()), rel=0.1)


def test_the_previous_picture_is_the_one_before_in_the_dataset(
    sound_models: dict[str, SoundModel],
) -> None:
    patient = sound_models[LLAVA].patient()
    pictures = [sample.open() for sample in sound_models[LLAVA].samples]
    assert patient.previous_picture(pictures[1]).tobytes() == pictures[0].tobytes()
    other_patient = Patient(sound_models[LLAVA].loaded, [])
    assert other_patient.previous_picture(pictures[1]) is pictures[1]


def test_a_copied_checkpoint_shares_only_its_weights(
    sound_models: dict[str, SoundModel], tmp_path: Path
) -> None:
    source = sound_models[LLAVA].folder
    target = copy_checkpoint(source, tmp_path / "copy")
    assert (target / "model.safetensors").samefile(source / "model.safetensors")
    before = (source / "config.json").read_bytes()
    set_value(target / "config.json", "text_config", "rms_norm_eps", value=0.5)
    edit_json(target / "config.json", lambda config: config.pop("model_type"))
    changed = json.loads((target / "config.json").read_text())
    assert changed["text_config"]["rms_norm_eps"] == 0.5
    assert "model_type" not in changed
    assert (source / "config.json").read_bytes() == before


@pytest.mark.slow
def test_harmless_variations_raise_no_alarm(
    cache: Path, sound_models: dict[str, SoundModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benign, "RUNS", benign.RUNS[3:10:3])
    monkeypatch.setattr(benign, "SHARD_SIZES", {"re-sharded finely": "200KB"})
    results = list(harmless_variations(cache, "tiny-llava"))
    assert len(results) == (3 + 1) * 4 + 12
    assert not [result for result in results if result.alarm]
    assert len({(result.variation, result.images) for result in results}) == len(results)


def outcome(**changes: object) -> Outcome:
    fields = {
        "fault": "f",
        "family": LLAVA,
        "label": "much",
        "severity": 1,
        "severities": 3,
        "expected": ["block 3"],
    }
    return Outcome(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_tables_have_what_was_caught_refused_and_missed() -> None:
    outcomes = [
        outcome(images=1, curve="inter", layer=3, excess=12.0, cause="block 3, its attention: as recorded"),
        outcome(images=0, refusal="/a/b/changed: states | are not finite"),
        outcome(),
        outcome(images=16, curve="recall", layer=2, excess=1.2, cause="final norm: no"),
    ]
    lines = table.faults(outcomes).splitlines()[2:]
    assert lines[0] == "| f | much | 1 image | `inter`, layer 3 | 12 | right |"
    assert lines[1] == "| f | much | refused | FOLDER: states / are not finite |  |  |"
    assert lines[2] == "| f | much | **missed** | - | 0 |  |"
    assert lines[3].endswith("| 16 images | `recall`, layer 2 | 1.2 | wrong: final norm |")
    assert table.missed(outcomes) == "- f, much"
    assert "| middle | 4 | 3 | 75.0% | 1 |" in table.shares(outcomes)


def test_causes_are_counted_by_place_and_by_how_sure_they_are() -> None:
    place = {"images": 1, "excess": 2.0}
    outcomes = [
        outcome(**place, cause="block 3, its attention"),
        outcome(**place, cause="at or before block 4 (the difference there is 2 x allowed)"),
        outcome(**place, cause="final norm or output head: no"),
        outcome(**place, cause=""),
        outcome(
            **place, cause="everywhere: precision; or only before", expected=["block 1, or", "everywhere"]
        ),
        outcome(**place, cause="no place is expected", expected=[]),
        outcome(images=0, refusal="states are not finite"),
    ]
    text = table.causes(outcomes)
    assert "| every block | 1 | 1 | 100.0% | 1 | 0 | 0 |" in text
    assert "| one block, the first blocks, positions | 4 | 2 | 50.0% | 1 | 1 | 1 |" in text
    assert "| all | 5 | 3 | 60.0% | 2 | 1 | 1 |" in text


def test_of_two_severities_the_milder_is_the_middle_one() -> None:
    two = [outcome(severity=0, severities=2), outcome(severity=1, severities=2, images=1)]
    assert "| mildest | 1 | 0 | 0.0% | 0 |" in table.shares(two)
    assert "| middle | 1 | 0 | 0.0% | 0 |" in table.shares(two)
    assert "| highest | 1 | 1 | 100.0% | 0 |" in table.shares(two)


def test_alarms_are_counted_by_variation() -> None:
    result = VariationResult("threads", "m", "scenes", "inter", 2, 0.5)
    text = table.variations(
        [result, replace(result, excess=float(np.inf)), replace(result, variation="order")]
    )
    assert "| threads | 2 | 1 | inf (`inter`, layer 2, m, scenes) |" in text
    assert text.endswith("| all | 3 | 1 | |")


def test_the_corpus_resumes_from_the_file_of_outcomes(tmp_path: Path) -> None:
    """With an outcome of every job nothing is run, and the page is complete."""
    keep, result = tmp_path / "kept.jsonl", VariationResult("threads", "m", "scenes", "inter", 2, 0.5)
    all_jobs = list(corpus.jobs())
    rows_by_job = {
        job: [result.as_dict() if job[0] in corpus.VARIATIONS else outcome(images=1).as_dict()]
        for job in all_jobs
    }
    keep.write_text("".join(json.dumps([job, rows]) + "\n" for job, rows in rows_by_job.items()))
    outcomes = corpus.run(all_jobs, keep)
    assert list(outcomes) == all_jobs
    page = corpus.document(outcomes)
    assert f"{len(FAULTS)} kinds" in page
    assert "| threads | 8 | 0 |" in page


def test_every_fault_is_a_job_once() -> None:
    all_jobs = list(corpus.jobs())
    assert len(set(all_jobs)) == len(all_jobs) == sum(len(fault.severities) for fault in FAULTS) + 8
