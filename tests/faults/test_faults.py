"""The corpus of faults, a few of it on the tiny models: what is caught, what heals, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faults import benign, corpus, table
from tests.faults.benign import Harmless, harmless
from tests.faults.catalogue import FAULTS, MODULES
from tests.faults.harness import Bed, Outcome, examine, inflict, scenes
from tests.faults.kinds import BLIP, LLAVA, Fault
from tests.faults.patient import Patient, alike, copied, edit, noise, place, setting

CAUGHT = (
    "image mean wrong or dropped", "channels in another order (BGR)", "turned, as by a lost EXIF mark",
    "image tokens in another order", "vision features of another layer", "projector transposed",
    "image features scaled", "two blocks swapped", "a block skipped", "RoPE scaled",
    "heads grouped otherwise (GQA)", "causal mask lost", "LoRA merged with the wrong sign", "weights in int8",
    "noise on the projector", "averaged with another model", "padding before the prompt that no mask hides",
)  # fmt: skip
REFUSED = ("image tokens too many or too few in the prompt", "a weight overflows", "NaN in one weight")


def named(name: str, family: str = LLAVA) -> Fault:
    return next(one for one in FAULTS if (one.name, one.family) == (name, family))


@pytest.fixture(scope="module")
def beds(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASEBENCH_CACHE", str(cache))
        samples = scenes(cache, 4)
        return {
            LLAVA: Bed.of("tiny-llava", cache, samples),
            BLIP: Bed.of("tiny-instructblip", cache, samples),
        }


@pytest.mark.parametrize("name", CAUGHT)
def test_a_fault_is_caught_at_the_first_image(beds: dict[str, Bed], name: str) -> None:
    fault = named(name)
    found = inflict(beds[LLAVA], fault, len(fault.severities) - 1)
    assert found.images == 1
    assert found.excess > 10
    assert found.named, found.said


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_refused(beds: dict[str, Bed], name: str) -> None:
    found = inflict(beds[LLAVA], named(name), 1)
    assert (found.images, bool(found.refused), found.said) == (0, True, "")


def test_faults_of_a_q_former_are_caught(beds: dict[str, Bed]) -> None:
    found = inflict(beds[BLIP], named("noise on the Q-Former", BLIP), 1)
    assert found.images == 1
    assert found.named


def test_a_sound_model_shows_nothing(beds: dict[str, Bed]) -> None:
    bed = beds[LLAVA]
    found = examine(bed, bed.loaded, fault="none", family=LLAVA, label="", severity=0, of=1)
    assert found.images is None
    assert found.excess < 1
    assert not found.said


def test_every_fault_of_memory_heals(beds: dict[str, Bed]) -> None:
    """Also those that are for other models' sizes: the weights are as before."""
    for bed in beds.values():
        patient = bed.patient()
        before = {name: value.clone() for name, value in bed.loaded.model.state_dict().items()}
        for fault in [one for one in FAULTS if not one.files and beds[one.family] is bed]:
            try:
                fault.change(patient, fault.severities[-1])
            except (ValueError, RuntimeError, IndexError):  # another prompt, another size
                continue
            finally:
                patient.heal()
        after = bed.loaded.model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not patient.loaded.pictures
        assert not patient.loaded.tensors
        assert patient.loaded.prompt == bed.loaded.prompt


def test_the_catalogue_is_whole() -> None:
    keys = [(fault.family, fault.name) for fault in FAULTS]
    assert len(set(keys)) == len(keys) >= 40
    assert all(2 <= len(fault.severities) <= 3 for fault in FAULTS)
    assert len(MODULES) == 5
    labels = [[fault.label(k) for k in range(len(fault.severities))] for fault in FAULTS]
    assert all(len(set(some)) == len(some) for some in labels)


def test_a_place_is_a_block_counted_from_one() -> None:
    assert [place(depth, 30) for depth in (0.0, 0.5, 1.0)] == [1, 15, 30]
    assert named("a block skipped").expected(0, 30) == "block 30"
    assert named("two blocks swapped").expected(2, 30) == "block 7"


def test_noise_has_the_norm_asked_for_and_a_redrawn_weight_its_spread() -> None:
    weight = 3 * torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    assert float(noise(weight, 0.01).norm() / weight.norm()) == pytest.approx(0.01)
    assert float(alike(weight).std()) == pytest.approx(float(weight.std()), rel=0.1)


def test_pictures_are_changed_by_share_and_the_other_is_the_one_before(beds: dict[str, Bed]) -> None:
    patient = beds[LLAVA].patient()
    pictures = [sample.open() for sample in beds[LLAVA].samples]
    assert patient.other(pictures[1]).tobytes() == pictures[0].tobytes()
    known = Patient(beds[LLAVA].loaded, [])
    assert known.other(pictures[1]) is pictures[1]


def test_a_copied_checkpoint_shares_weights_and_nothing_else(beds: dict[str, Bed], tmp_path: Path) -> None:
    source = beds[LLAVA].folder
    target = copied(source, tmp_path / "copy")
    assert (target / "model.safetensors").samefile(source / "model.safetensors")
    before = (source / "config.json").read_bytes()
    setting(target / "config.json", "text_config", "rms_norm_eps", value=0.5)
    edit(target / "config.json", lambda found: found.pop("model_type"))
    changed = json.loads((target / "config.json").read_text())
    assert changed["text_config"]["rms_norm_eps"] == 0.5
    assert "model_type" not in changed
    assert (source / "config.json").read_bytes() == before


@pytest.mark.slow
def test_harmless_variations_raise_no_alarm(
    cache: Path, beds: dict[str, Bed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benign, "RUNS", benign.RUNS[3:10:3])
    monkeypatch.setattr(benign, "SAVED", {"re-sharded finely": "200KB"})
    found = list(harmless(cache, "tiny-llava"))
    assert len(found) == (3 + 1) * 4 + 12
    assert not [one for one in found if one.alarm]
    assert len({(one.variation, one.images) for one in found}) == len(found)


def outcome(**changes: object) -> Outcome:
    about = {"fault": "f", "family": LLAVA, "label": "much", "severity": 1, "of": 3, "expected": "block 3"}
    return Outcome(**{**about, **changes})  # type: ignore[arg-type]


def test_the_table_tells_what_was_caught_refused_and_missed() -> None:
    some = [
        outcome(images=1, curve="inter", layer=3, excess=12.0, said="block 3, its attention: as recorded"),
        outcome(images=0, refused="/a/b/changed: states | are not finite"),
        outcome(),
        outcome(images=16, curve="recall", layer=2, excess=1.2, said="final norm: no"),
    ]
    lines = table.faults(some).splitlines()[2:]
    assert lines[0] == "| f | much | 1 image | `inter`, layer 3 | 12 | right |"
    assert lines[1] == "| f | much | refused | FOLDER: states / are not finite |  |  |"
    assert lines[2] == "| f | much | **missed** | - | 0 |  |"
    assert lines[3].endswith("| 16 images | `recall`, layer 2 | 1.2 | wrong: final norm |")
    assert table.missed(some) == "- f, much"
    assert "| middle | 4 | 3 | 75.0% | 1 |" in table.shares(some)
    assert "right in 1 (50.0%), wrong in 1, and 0 times none" in table.causes(some)


def test_of_two_severities_the_milder_is_the_middle_one() -> None:
    two = [outcome(severity=0, of=2), outcome(severity=1, of=2, images=1)]
    assert "| mildest | 1 | 0 | 0.0% | 0 |" in table.shares(two)
    assert "| middle | 1 | 0 | 0.0% | 0 |" in table.shares(two)
    assert "| highest | 1 | 1 | 100.0% | 0 |" in table.shares(two)


def test_alarms_are_counted_by_variation() -> None:
    fine = Harmless("threads", "m", "scenes", "inter", 2, 0.5)
    told = table.benign([fine, replace(fine, excess=float(np.inf)), replace(fine, variation="order")])
    assert "| threads | 2 | 1 | inf (`inter`, layer 2, m, scenes) |" in told
    assert told.endswith("| all | 3 | 1 | |")


def test_the_corpus_goes_on_from_what_is_kept(tmp_path: Path) -> None:
    """Every job kept: nothing is run, and the page is written whole."""
    keep, fine = tmp_path / "kept.jsonl", Harmless("threads", "m", "scenes", "inter", 2, 0.5)
    every = list(corpus.jobs())
    found = {
        job: [fine.as_dict() if job[0] in corpus.VARIED else outcome(images=1).as_dict()] for job in every
    }
    keep.write_text("".join(json.dumps([job, rows]) + "\n" for job, rows in found.items()))
    done = corpus.run(every, keep)
    assert list(done) == every
    page = corpus.document(done)
    assert f"{len(FAULTS)} kinds" in page
    assert "| threads | 8 | 0 |" in page


def test_every_fault_is_a_job_once() -> None:
    every = list(corpus.jobs())
    assert len(set(every)) == len(every) == sum(len(fault.severities) for fault in FAULTS) + 8
