"""Measuring one model on one dataset: every image once, the controls beside it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

import phasebench
from phasebench.curves import Array, Curves
from phasebench.datasets.sample import Sample, digest
from phasebench.errors import InputError
from phasebench.measurement import controls, shards
from phasebench.measurement.accumulate import Example, RecallScorer, RowAccumulator, stack
from phasebench.measurement.batches import (
    OnProgress,
    PassRunner,
    ProgressUpdate,
    in_batches,
    largest_batch,
    rows_of,
    where_it_fits,
)
from phasebench.measurement.passes import Row
from phasebench.measurement.patches import patches
from phasebench.measurement.row_store import Store, code_of, definitions
from phasebench.measurement.screen import forget
from phasebench.measurement.selftest import NotFiniteError, SelfTest, self_test
from phasebench.models.anatomy.adapter import Anatomy, dissect
from phasebench.models.checks import some
from phasebench.models.loading import Loaded
from phasebench.settings import Settings


@dataclass
class Measurement:
    """What measuring a model on a dataset gives.

    Attributes:
        curves: per image and layer.
        controls: name of a control -> its curves (one row for ``blank``).
        seconds: per image that this run measured; empty where all came from the store.
        paired_seconds: the same and those of the plain pass, of the first images, where that was timed.
        heatmap: mean norm-based attention [L, N]; None where layouts differ.
        examples: the first two images, by id.
        selftest: the outcome of the checks.
        broken: image id -> from where on its states are not finite; such an image has no values there.
        stored: images that an earlier run measured.
        patches: how the image tokens lie over a picture; None where they do not, or it is not known.
        notes: what happened on the way that does not change the numbers.
    """

    curves: Curves
    controls: dict[str, Curves]
    seconds: list[float]
    paired_seconds: list[tuple[float, float]]
    heatmap: Array | None
    examples: dict[str, Example]
    selftest: SelfTest = field(repr=False)
    broken: dict[str, str] = field(default_factory=dict)
    stored: int = 0
    patches: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def plain_seconds(self) -> list[float]:
        """Seconds of the plain forward pass, of the images where it was timed."""
        return [plain for _, plain in self.paired_seconds]


def measure(
    loaded: Loaded,
    dataset: str,
    samples: Sequence[Sample],
    settings: Settings,
    progress: OnProgress,
    own_rows: set[str] | None = None,
) -> Measurement:
    """Measure ``loaded`` on ``samples``, each image in one instrumented forward pass.

    Images whose rows are in ``settings.store`` are not measured again. ``own_rows`` are the names of the rows
    that this run has measured of the model, for any of its datasets, and grows: they are no earlier run's.
    What the self-test takes out is NaN in the curves, and named in ``provenance["unmeasured"]``.

    Raises:
        InputError: an image cannot be read, or the model cannot be measured rightly.
        Elsewhere: of several processes this is not the first; its share is measured.
    """
    if not samples:
        raise InputError(f"{dataset}: there are no images to measure")
    contents = {sample.id: sample.digest() for sample in samples}
    anatomy = dissect(loaded.model, loaded.inputs([samples[0].open()]))
    forget(anatomy.head)
    if settings.controls:
        controls.check_controls(loaded, anatomy)
    label = f"{loaded.name} on {dataset}"
    size = settings.batch_size or largest_batch(loaded, anatomy, samples)
    if settings.shared:
        size = shards.agreed(size, label)
    tested = _tested(loaded, anatomy, samples[:size])
    passes = _pass_runner(loaded, anatomy, settings, own_rows)
    batches = list(in_batches(samples, size))
    if settings.shared:
        shards.share(passes, batches, progress, label)
    scorer = RecallScorer(loaded.processor.tokenizer, samples)
    rows = RowAccumulator(anatomy, samples, scorer)
    for row in rows_of(passes, batches, progress):
        rows.add(row)
    provenance = {
        **_provenance(loaded, dataset, settings, rows.layouts),
        "data": digest(contents.values()),
        "images": len(samples),
        "batch_size": min(size, passes.fits or size),
        **({"unmeasured": tested.unmeasured} if tested.unmeasured else {}),
    }
    items = {sample.id: sample.item for sample in samples}
    return Measurement(
        curves=Curves.from_arrays(rows.arrays(), items, provenance, contents),
        controls=_controls(passes, samples, settings, scorer, progress),
        seconds=rows.seconds,
        paired_seconds=rows.paired_seconds,
        heatmap=rows.heatmap(),
        examples=rows.examples,
        selftest=tested,
        broken=rows.broken,
        stored=rows.stored,
        patches=_patches(loaded, rows.layouts),
        notes=_notes(passes),
    )


def _tested(loaded: Loaded, anatomy: Anatomy, batch: Sequence[Sample]) -> SelfTest:
    """The self-test on a batch, or on as much of it as memory takes: it keeps more than a pass does.

    Where an image overflows, on the first alone, whose states were seen to be finite.
    """
    images = [sample.open() for sample in batch]
    try:
        tested = where_it_fits(lambda: self_test(anatomy, loaded.inputs(images)), len(batch))
    except NotFiniteError:
        if len(batch) == 1:
            raise
        return _tested(loaded, anatomy, batch[:1])
    return tested or _tested(loaded, anatomy, batch[: len(batch) // 2])


def _pass_runner(
    loaded: Loaded, anatomy: Anatomy, settings: Settings, own_rows: set[str] | None
) -> PassRunner:
    """Everything but the inputs that determines a row names the folder it is kept in."""
    about = {
        "model": loaded.name,
        "checkpoint": loaded.checkpoint,
        "definitions": definitions(),
        "code": code_of(loaded.model),
        "matmul": torch.get_float32_matmul_precision(),
        "lens_norm": settings.lens_norm,
        "attention": getattr(loaded.model.config, "_attn_implementation", None),
        "unmeasured": anatomy.unmeasured,
        **_machine(loaded),
    }
    root = settings.store if loaded.checkpoint else None
    store = Store(root, about, fresh=settings.fresh, carry=settings.shared, own=own_rows)
    return PassRunner(loaded, anatomy, store, lens_norm=settings.lens_norm)


def _notes(passes: PassRunner) -> list[str]:
    """What happened on the way, each thing once."""
    notes, store = [], passes.store
    if unread := passes.loaded.unread:
        notes.append(f"{len(unread)} weights of the checkpoint are not used by the model: {some(unread)}")
    if passes.halved:
        notes.append(f"memory ran out with {passes.halved[0]} images a pass; went on with {passes.fits}")
    if store.damaged:
        notes.append(
            f"{store.damaged} damaged files in the store, their images measured again: {store.folder}"
        )
    if store.trouble:
        notes.append(f"images are not kept for another run: {store.trouble}")
    return notes


def _controls(
    passes: PassRunner,
    samples: Sequence[Sample],
    settings: Settings,
    scorer: RecallScorer,
    progress: OnProgress,
) -> dict[str, Curves]:
    row = controls.blank(passes, samples[0].open().size)
    blank = stack([{**row.curves, **scorer.blank(row)}])
    found = {"blank": Curves.from_arrays(blank, {"blank": "blank"})}
    if settings.controls:
        for name, control in (
            ("projector", controls.untrained_projector),
            ("text", controls.text_against_text),
        ):
            rows = list(
                _with_progress(control(passes, samples, seed=settings.seed), name, passes, samples, progress)
            )
            items = {sample.id: sample.item for sample in samples[: len(rows)]}
            curves = [{**row.curves, **scorer.score(row, index)} for index, row in enumerate(rows)]
            found[name] = Curves.from_arrays(stack(curves), items)
    return found


def _with_progress(
    rows: Iterator[Row], name: str, passes: PassRunner, samples: Sequence[Sample], progress: OnProgress
) -> Iterator[Row]:
    """The rows of a control, with ``progress`` told before them and after each."""
    before, total = passes.measured, min(controls.CONTROL_IMAGES, len(samples))
    progress(ProgressUpdate(0, 0, total, control=name))
    for number, row in enumerate(rows, start=1):
        yield row
        progress(ProgressUpdate(number, passes.measured - before, total, control=name))


def _patches(loaded: Loaded, layouts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of one layout with one run of image tokens."""
    spans = [span for layout in layouts for span in layout["visual"]]
    return patches(loaded, spans[0][1] - spans[0][0]) if len(spans) == 1 else None


def _provenance(
    loaded: Loaded, dataset: str, settings: Settings, layouts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What was measured, on what, with what: plain data, kept beside every curve."""
    source = {"source": loaded.source} if loaded.source else {}
    return {
        "model": loaded.name,
        "architecture": str(loaded.model.config.model_type),
        "checkpoint": loaded.checkpoint,
        "dataset": dataset,
        "prompt": loaded.prompt,
        "processing": loaded.processing(),
        "layout": layouts[0] if len(layouts) == 1 else list(layouts),
        "seed": settings.seed,
        "lens_norm": settings.lens_norm,
        **_machine(loaded),
        **source,
    }


def _machine(loaded: Loaded) -> dict[str, str]:
    """Precision, device and versions."""
    return {
        "device": _device_name(loaded.device),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
        "phasebench": phasebench.__version__,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({platform.machine()})"
