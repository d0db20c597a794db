"""Putting a fault in and measuring image after image until drift is seen, as a run would see it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from phasebench.models.named_models import bundled_models, resolve_models
from phasebench.settings import Settings
from tests.faults.kinds import Fault
from tests.faults.patient import Patient, copied
from tests.support.synthetic import TOLERANCES

STEPS = (1, 2, 4, 8, 16, 50)
"""Images after which a look is taken."""
COMPARED = tuple(name for name in CURVES if name not in OF_OTHER_CAPTIONS)
"""Without those that a run on part of the images does not compare image by image."""


@dataclass(frozen=True)
class Outcome:
    """What became of one fault at one severity.

    Attributes:
        images: after how many drift was seen; 0 where the model was refused, None where neither.
        curve, layer, excess: what lay furthest from what is allowed, and by how often.
        moved: curve -> first layer that was past what is allowed.
        said, expected: the cause as it was named, and what it ought to contain.
        refused: why the model was not measured.
    """

    fault: str
    family: str
    label: str
    severity: int
    of: int
    images: int | None = None
    curve: str = ""
    layer: int = -1
    excess: float = 0.0
    moved: dict[str, int] = field(default_factory=dict)
    said: str = ""
    expected: str = ""
    refused: str = ""

    @property
    def caught(self) -> bool:
        return self.images is not None

    @property
    def named(self) -> bool:
        return bool(self.expected) and self.expected in self.said

    as_dict = asdict


def differences(reference: dict[str, Record], measured: Curves) -> list[Difference]:
    """Every compared curve of ``measured`` against its record."""
    return [compare(known, record(measured, name), TOLERANCES) for name, known in reference.items()]


@dataclass
class Bed:
    """A sound model, its images and what is recorded of it.

    Attributes:
        folder: its checkpoint.
        records: curve -> the record of all images.
        recalls: of its own tokenizer, which is slow to read.
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
    def of(cls, name: str, cache: Path, samples: Sequence[Sample]) -> Bed:
        """Measured as a run measures it; its rows are taken from the store where they are."""
        spec = next(spec for spec in bundled_models() if spec.name == name)
        loaded = load(spec, cache, Settings(device="cpu"))
        found = measure(loaded, "faults", samples, Settings(store=store_folder(None)), lambda *_: None)
        records = {curve: record(found.curves, curve) for curve in COMPARED}
        recalls = RecallScorer(loaded.processor.tokenizer, samples)
        anatomy = dissect(loaded.model, loaded.inputs([samples[0].open()]))
        return cls(name, loaded, spec.folder(cache, Settings()), cache, samples, records, recalls, anatomy)

    def patient(self) -> Patient:
        return Patient(self.loaded, [sample.open() for sample in self.samples])


def scenes(cache: Path, count: int, seed: int = 0, dataset: str = "scenes") -> Sequence[Sample]:
    spec = next(spec for spec in bundled_datasets() if spec.name == dataset)
    return select(spec.read(cache), count, seed).samples


def examine(bed: Bed, loaded: LoadedModel, **about: Any) -> Outcome:
    """Measure ``loaded`` on more and more of the bed's images until drift is seen."""
    try:
        return _examined(bed, loaded, about)
    except InputError as error:
        return Outcome(**about, images=0, refused=str(error))


def _examined(bed: Bed, loaded: LoadedModel, about: dict[str, Any]) -> Outcome:
    """Anatomy, self-test and lens cost most; they come where the first image shows nothing yet."""
    first = loaded.inputs([bed.samples[0].open()])
    same = loaded.model is bed.loaded.model
    anatomy = bed.anatomy if same else dissect(loaded.model, first)
    lensless = replace(anatomy, unmeasured={**anatomy.unmeasured, "lens": "not yet"})
    known = loaded.processor is bed.loaded.processor
    recalls = bed.recalls if known else RecallScorer(loaded.processor.tokenizer, bed.samples)
    seen = _steps(bed, loaded, RowAccumulator(lensless, bed.samples, recalls), lensless, 1, about)
    if seen.caught:
        return seen
    anatomy = dissect(loaded.model, first)
    anatomy = self_test(anatomy, first).restrict(anatomy)
    every = len(bed.samples)
    return _steps(bed, loaded, RowAccumulator(anatomy, bed.samples, recalls), anatomy, every, about)


def _steps(
    bed: Bed, loaded: LoadedModel, reading: RowAccumulator, anatomy: Anatomy, most: int, about: dict[str, Any]
) -> Outcome:
    lens = "lens" not in anatomy.unmeasured
    records = {name: one for name, one in bed.records.items() if lens or name not in LENS}
    worst = Outcome(**about)
    for number, sample in enumerate(bed.samples[:most], 1):
        reading.add(probed_pass(anatomy, loaded.inputs([sample.open()]))[0])
        if reading.broken:
            raise InputError(next(iter(reading.broken.values())))
        if number in STEPS or number == most:
            worst = _judged(records, _curves(bed, loaded, reading, number), number, about)
            if worst.caught:
                break
    return worst


def _curves(bed: Bed, loaded: LoadedModel, reading: RowAccumulator, number: int) -> Curves:
    """What is measured so far, with the provenance that drift and cause read."""
    some = bed.samples[:number]
    contents = {sample.id: sample.digest() for sample in some}
    layouts = reading.layouts
    provenance = {
        "checkpoint": loaded.checkpoint,
        "prompt": loaded.prompt,
        "layout": layouts[0] if len(layouts) == 1 else list(layouts),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "data": digest(contents.values()),
    }
    return Curves.from_arrays(reading.arrays(), {s.id: s.item for s in some}, provenance, contents)


def _judged(records: dict[str, Record], curves: Curves, number: int, about: dict[str, Any]) -> Outcome:
    found = differences(records, curves)
    worst = max(found, key=lambda one: float(one.excess[one.worst]))
    layer, drifted = worst.worst, any(one.drifted for one in found)
    return Outcome(
        **about,
        images=number if drifted else None,
        curve=worst.curve,
        layer=layer,
        excess=float(worst.excess[layer]),
        moved={one.curve: min(one.drifted) for one in found if one.drifted},
        said=cause(found, records["inter"]["provenance"], curves.provenance),
    )


def inflict(bed: Bed, fault: Fault, severity: int, patient: Patient | None = None) -> Outcome:
    """Put a fault into the bed's model, or a copy of its files, and see what becomes of it."""
    about = {
        "fault": fault.name, "family": fault.family, "label": fault.label(severity), "severity": severity,
        "of": len(fault.severities), "expected": fault.expected(severity, len(dissected(bed))),
    }  # fmt: skip
    if fault.files:
        return _of_files(bed, fault, severity, about)
    patient = patient or bed.patient()
    try:
        fault.change(patient, fault.severities[severity])
        return examine(bed, patient.loaded, **about)
    finally:
        patient.heal()


def dissected(bed: Bed) -> list[Any]:
    return Patient(bed.loaded, []).blocks


def _of_files(bed: Bed, fault: Fault, severity: int, about: dict[str, Any]) -> Outcome:
    with tempfile.TemporaryDirectory(dir=bed.cache, prefix="fault-") as scratch:
        folder = copied(bed.folder, Path(scratch) / "changed")
        fault.change(folder, fault.severities[severity])
        (spec,) = resolve_models([f"{bed.name}={folder}"], {spec.name: spec for spec in bundled_models()})
        try:
            loaded = load(spec, bed.cache, Settings(device="cpu"))
        except InputError as error:
            return Outcome(**about, images=0, refused=str(error))
        return examine(bed, loaded, **about)
