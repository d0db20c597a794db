"""Variations that must not be reported as drift: ways to run, to save, to draw images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phasebench.catalog import CURVES, OF_OTHER_CAPTIONS
from phasebench.commands.variations import PLAIN, Values, Variation, measure_as
from phasebench.curves import Curves
from phasebench.datasets.sample import Sample, digest
from phasebench.files import store_folder
from phasebench.judge.drift.difference import Difference, compare
from phasebench.judge.drift.record import Record, record
from phasebench.measurement.measure import measure
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec, bundled_models
from phasebench.settings import Settings
from tests.faults.harness import scenes
from tests.faults.patient import copy_checkpoint
from tests.support.synthetic import TOLERANCES

IMAGES = 2
SETS = (("scenes", 1), ("scenes", 2), ("scenes", 3), ("photos", 1))
"""Dataset and seed; the calibration uses seed 0."""
MODELS = ("smol-llava", "smol-instructblip", "tiny-llava", "tiny-instructblip")
RUNS = (
    Variation("batches of 2", batch_size=2),
    Variation("batches of 3", batch_size=3),
    Variation("other order", backwards=True),
    Variation("other order, batches of 2", backwards=True, batch_size=2),
    Variation("1 padding token before, unmoved positions", padding=-1),
    Variation("8 padding tokens before, unmoved positions", padding=-8),
    Variation("2 padding tokens after", padding=2),
    Variation("9 padding tokens after, batches of 3", padding=9, batch_size=3),
    Variation("eager attention", attention="eager"),
    Variation("eager attention, batches of 2", attention="eager", batch_size=2),
    Variation("eager attention, 4 padding tokens before", attention="eager", padding=-4),
    Variation("two threads", threads=2),
    Variation("two threads, batches of 3", threads=2, batch_size=3),
    Variation("four threads", threads=4),
)
SHARD_SIZES = {"re-saved": "10GB", "re-sharded": "20MB", "re-sharded finely": "200KB"}
DTYPES = ("bfloat16", "float16")
DRAWS = 12
"""Pairs of draws of one dataset that are compared with each other."""


@dataclass(frozen=True)
class VariationResult:
    """One variation and its largest difference, divided by the allowed one."""

    variation: str
    model: str
    images: str
    curve: str
    layer: int
    excess: float

    @property
    def alarm(self) -> bool:
        return self.excess > 1

    as_dict = asdict


def harmless_variations(cache: Path, model: str) -> Iterator[VariationResult]:
    """Every variation of one model within one precision."""
    spec = _spec(model)
    loaded_model, sets = load(spec, cache, Settings(device="cpu")), _sets(cache)
    plain = _measure_sets(loaded_model, sets, PLAIN)
    for variation in RUNS:
        yield from _results(variation.name, model, plain, _measure_sets(loaded_model, sets, variation))
    for change, loaded in _saved_copies(cache, spec, loaded_model):
        yield from _results(change, model, plain, _measure_sets(loaded, sets, PLAIN))
    yield from _draws(cache, model, loaded_model)


def precisions(cache: Path, model: str) -> Iterator[VariationResult]:
    """The same checkpoint in 16 bits, against its records in float32."""
    spec, sets = _spec(model), _sets(cache)
    plain = _measure_sets(load(spec, cache, Settings(device="cpu")), sets, PLAIN)
    for dtype in DTYPES:
        loaded = load(spec, cache, Settings(device="cpu", dtype=dtype))
        yield from _results(f"in {dtype}", model, plain, _measure_sets(loaded, sets, PLAIN))


def _spec(model: str) -> ModelSpec:
    return next(spec for spec in bundled_models() if spec.name == model)


def _sets(cache: Path) -> dict[str, Sequence[Sample]]:
    return {f"{name}, seed {seed}": scenes(cache, IMAGES, seed, name) for name, seed in SETS}


def _measure_sets(
    loaded: LoadedModel, sets: Mapping[str, Sequence[Sample]], variation: Variation
) -> dict[str, dict[str, Record]]:
    """The records of every set; all are measured together, with ids that name the set."""
    all_samples = [
        replace(sample, id=f"{name} {sample.id}") for name, samples in sets.items() for sample in samples
    ]
    values, records, start = measure_as(loaded, all_samples, variation), {}, 0
    for name, samples in sets.items():
        stop = start + len(samples)
        records[name] = _records(loaded, samples, {curve: rows[start:stop] for curve, rows in values.items()})
        start = stop
    return records


def _saved_copies(
    cache: Path, spec: ModelSpec, loaded_model: LoadedModel
) -> Iterator[tuple[str, LoadedModel]]:
    """The same checkpoint in other files."""
    for name, size in SHARD_SIZES.items():
        with tempfile.TemporaryDirectory(dir=cache, prefix="saved-") as scratch:
            folder = copy_checkpoint(spec.folder(cache, Settings()), Path(scratch) / "again")
            for path in folder.glob("*.safetensors"):
                path.unlink()
            loaded_model.model.save_pretrained(folder, max_shard_size=size)
            loaded_model.processor.save_pretrained(folder)
            yield name, load(replace(spec, source=folder), cache, Settings(device="cpu"))


def _draws(cache: Path, model: str, loaded: LoadedModel) -> Iterator[VariationResult]:
    """Two draws of the scenes without a common image, within sampling error."""
    all_samples = scenes(cache, 60)
    measured = measure(
        loaded, "faults", all_samples, Settings(store=store_folder(None)), lambda *_: None
    ).curves
    values = {name: measured.array(name) for name in measured.names}
    for seed in range(DRAWS):
        drawn_ids = {sample.id for sample in scenes(cache, 30, seed)}
        halves = [
            [k for k, sample in enumerate(all_samples) if (sample.id in drawn_ids) == is_drawn]
            for is_drawn in (True, False)
        ]
        before, after = (
            _records(
                loaded, [all_samples[k] for k in half], {name: rows[half] for name, rows in values.items()}
            )
            for half in halves
        )
        name = f"scenes, split {seed}"
        yield from _results("other images", model, {name: before}, {name: after})


def _records(loaded: LoadedModel, samples: Sequence[Sample], values: Values) -> dict[str, Record]:
    contents = {sample.id: sample.digest() for sample in samples}
    provenance = {"dtype": str(loaded.dtype).removeprefix("torch."), "data": digest(contents.values())}
    curves = Curves.from_arrays(values, {sample.id: sample.item for sample in samples}, provenance, contents)
    return {name: record(curves, name) for name in CURVES if name not in OF_OTHER_CAPTIONS}


def _results(
    variation: str,
    model: str,
    before: Mapping[str, dict[str, Record]],
    after: Mapping[str, dict[str, Record]],
) -> Iterator[VariationResult]:
    for images, records in before.items():
        differences = [
            compare(recorded, after[images][name], TOLERANCES) for name, recorded in records.items()
        ]
        worst: Difference = max(differences, key=lambda diff: float(diff.excess[diff.worst]))
        excess = float(worst.excess[worst.worst])
        yield VariationResult(variation, model, images, worst.curve, worst.worst, excess)
