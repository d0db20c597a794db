"""Applying a fault, and measuring image after image until there is drift, as a run would detect it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phasebench.catalog import CURVES, LENS, OF_OTHER_CAPTIONS
from phasebench.curves import Curves
from phasebench.datasets.named_datasets import bundled_datasets
from phasebench.datasets.sample import Sample, digest
from phasebench.datasets.selection import select
from phasebench.errors import InputError
from phasebench.files import store_folder
from phasebench.judge.drift.cause import cause
from phasebench.judge.drift.difference import Difference, compare
from phasebench.judge.drift.record import Record, record
from phasebench.measurement.accumulate import RowAccumulator
from phasebench.measurement.measure import measure
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.recall import RecallScorer
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import Anatomy, dissect
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import bundled_models
from phasebench.models.resolution import resolve_models
from phasebench.settings import Settings
from tests.faults.kinds import Fault
from tests.faults.outcome import CAUSE_FACTS, Outcome, pack
from tests.faults.patient import Patient, copy_checkpoint
from tests.support.synthetic import TOLERANCES

STEPS = (1, 2, 4, 8, 16, 50)
"""Numbers of images after which curves are compared."""
COMPARED = tuple(name for name in CURVES if name not in OF_OTHER_CAPTIONS)
"""Curves that a run on part of the images compares image by image."""


def differences(reference: dict[str, Record], measured: Curves) -> list[Difference]:
    """Every compared curve of ``measured`` against its record."""
    return [compare(recorded, record(measured, name), TOLERANCES) for name, recorded in reference.items()]


@dataclass
class SoundModel:
    """A model without a fault, its images and their records.

    Attributes:
        folder: its checkpoint.
        records: curve -> the record of all images.
        recalls: recall with its tokenizer, which is slow to read.
        anatomy: its parts.
    """

    name: str
    loaded: LoadedModel
    folder: Path
    cache: Path
    samples: Sequence[Sample]
    records: dict[str, Record]
    recalls: RecallScorer
    anatomy: Anatomy

    @classmethod
    def measure(cls, name: str, cache: Path, samples: Sequence[Sample]) -> SoundModel:
        """Measure a bundled model as a run does; rows are read from the store if they are there."""
        spec = next(spec for spec in bundled_models() if spec.name == name)
        loaded = load(spec, cache, Settings(device="cpu"))
        settings = Settings(store=store_folder(None))
        measurement = measure(loaded, "faults", samples, settings, lambda *_: None)
        records = {curve: record(measurement.curves, curve) for curve in COMPARED}
        recalls = RecallScorer(loaded.processor.tokenizer, samples)
        anatomy = dissect(loaded.model, loaded.inputs([samples[0].open()]))
        return cls(name, loaded, spec.folder(cache, Settings()), cache, samples, records, recalls, anatomy)

    def patient(self) -> Patient:
        return Patient(self.loaded, [sample.open() for sample in self.samples])


def scenes(cache: Path, count: int, seed: int = 0, dataset: str = "scenes") -> Sequence[Sample]:
    spec = next(spec for spec in bundled_datasets() if spec.name == dataset)
    return select(spec.read(cache), count, seed).samples


def measure_until_drift(sound_model: SoundModel, loaded: LoadedModel, **fields: Any) -> Outcome:
    """Measure ``loaded`` on more and more of the images until there is drift or a refusal."""
    try:
        return _measure_in_steps(sound_model, loaded, fields)
    except InputError as error:
        return Outcome(**fields, images=0, refusal=str(error))


def _measure_in_steps(sound_model: SoundModel, loaded: LoadedModel, fields: dict[str, Any]) -> Outcome:
    """Measure the first image without the lens; only if there is no drift, self-test and lens follow."""
    first = loaded.inputs([sound_model.samples[0].open()])
    is_same_model = loaded.model is sound_model.loaded.model
    anatomy = sound_model.anatomy if is_same_model else dissect(loaded.model, first)
    without_lens = replace(anatomy, unmeasured={**anatomy.unmeasured, "lens": "not yet"})
    has_same_processor = loaded.processor is sound_model.loaded.processor
    recalls = (
        sound_model.recalls
        if has_same_processor
        else RecallScorer(loaded.processor.tokenizer, sound_model.samples)
    )
    outcome = _steps(
        sound_model,
        loaded,
        RowAccumulator(without_lens, sound_model.samples, recalls),
        without_lens,
        1,
        fields,
    )
    if outcome.is_caught:
        return outcome
    anatomy = dissect(loaded.model, first)
    anatomy = self_test(anatomy, first).restrict(anatomy)
    count = len(sound_model.samples)
    return _steps(
        sound_model, loaded, RowAccumulator(anatomy, sound_model.samples, recalls), anatomy, count, fields
    )


def _steps(
    sound_model: SoundModel,
    loaded: LoadedModel,
    accumulator: RowAccumulator,
    anatomy: Anatomy,
    count: int,
    fields: dict[str, Any],
) -> Outcome:
    lens = "lens" not in anatomy.unmeasured
    records = {name: record for name, record in sound_model.records.items() if lens or name not in LENS}
    outcome = Outcome(**fields)
    for number, sample in enumerate(sound_model.samples[:count], 1):
        accumulator.add(probed_pass(anatomy, loaded.inputs([sample.open()]))[0])
        if accumulator.broken:
            raise InputError(next(iter(accumulator.broken.values())))
        if number in STEPS or number == count:
            outcome = _outcome(records, _curves(sound_model, loaded, accumulator, number), number, fields)
            if outcome.is_caught:
                break
    return outcome


def _curves(sound_model: SoundModel, loaded: LoadedModel, accumulator: RowAccumulator, number: int) -> Curves:
    """The curves measured so far, with the provenance that drift and cause read."""
    samples = sound_model.samples[:number]
    contents = {sample.id: sample.digest() for sample in samples}
    layouts = accumulator.layouts
    provenance = {
        "checkpoint": loaded.checkpoint,
        "prompt": loaded.prompt,
        "layout": layouts[0] if len(layouts) == 1 else list(layouts),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "data": digest(contents.values()),
    }
    return Curves.from_arrays(
        accumulator.arrays(), {sample.id: sample.item for sample in samples}, provenance, contents
    )


def _outcome(records: dict[str, Record], curves: Curves, number: int, fields: dict[str, Any]) -> Outcome:
    curve_differences = differences(records, curves)
    worst = max(curve_differences, key=lambda difference: float(difference.excess[difference.worst]))
    layer, drifted = worst.worst, any(difference.drifted for difference in curve_differences)
    facts = records["inter"]["provenance"], curves.provenance
    provenance = [{name: side[name] for name in CAUSE_FACTS} for side in facts]
    return Outcome(
        **fields,
        images=number if drifted else None,
        curve=worst.curve,
        layer=layer,
        excess=float(worst.excess[layer]),
        differences=[pack(difference) for difference in curve_differences],
        provenance=provenance,
        cause=cause(curve_differences, *provenance),
    )


def apply_fault(
    sound_model: SoundModel, fault: Fault, severity: int, patient: Patient | None = None
) -> Outcome:
    """Apply a fault to the model, or to a copy of its files, and measure its outcome."""
    blocks = len(model_blocks(sound_model))
    fields = {
        "fault": fault.name,
        "family": fault.family,
        "label": fault.label(severity),
        "severity": severity,
        "severities": len(fault.severities),
        "expected": fault.expected_parts(severity, blocks),
    }
    if fault.in_files:
        return _apply_to_files(sound_model, fault, severity, fields)
    patient = patient or sound_model.patient()
    try:
        fault.change(patient, fault.severities[severity])
        return measure_until_drift(sound_model, patient.loaded, **fields)
    finally:
        patient.heal()


def model_blocks(sound_model: SoundModel) -> list[Any]:
    return Patient(sound_model.loaded, []).blocks


def _apply_to_files(sound_model: SoundModel, fault: Fault, severity: int, fields: dict[str, Any]) -> Outcome:
    with tempfile.TemporaryDirectory(dir=sound_model.cache, prefix="fault-") as scratch:
        folder = copy_checkpoint(sound_model.folder, Path(scratch) / "changed")
        fault.change(folder, fault.severities[severity])
        (spec,) = resolve_models(
            [f"{sound_model.name}={folder}"], {spec.name: spec for spec in bundled_models()}
        )
        try:
            loaded = load(spec, sound_model.cache, Settings(device="cpu"))
        except InputError as error:
            return Outcome(**fields, images=0, refusal=str(error))
        return measure_until_drift(sound_model, loaded, **fields)
