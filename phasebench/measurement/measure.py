"""Measuring one model on one dataset: self-test, one pass for each image, and the controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from phasebench.curves import Array, Curves
from phasebench.datasets.sample import Sample, digest
from phasebench.datasets.selection import Skip, whole_items
from phasebench.errors import InputError, RefusedError, one_line
from phasebench.measurement import controls, shards
from phasebench.measurement.accumulate import ExampleImage, RowAccumulator, stack
from phasebench.measurement.batches import (
    ACCELERATOR_BATCH,
    PASS_ERRORS,
    OnProgress,
    PassRunner,
    ProgressUpdate,
    RefusedImages,
    rows_of_batches,
    run_if_it_fits,
    split_into_batches,
)
from phasebench.measurement.compiled import NOTE, is_compiled, uncompiled
from phasebench.measurement.conditions import row_conditions, run_conditions
from phasebench.measurement.passes import Row
from phasebench.measurement.patches import patches
from phasebench.measurement.recall import RecallScorer
from phasebench.measurement.row_store import Store
from phasebench.measurement.screen import forget
from phasebench.measurement.selftest import NotFiniteError, SelfTest, self_test
from phasebench.models.anatomy.adapter import Anatomy, dissect
from phasebench.models.checks import summary_of_names
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings

REFUSED = "that the model refuses"
"""The reason why a refused image is skipped."""


@dataclass
class Measurement:
    """The result of measuring a model on a dataset.

    Attributes:
        curves: per image and layer.
        controls: name of a control -> its curves (a single image for ``blank``).
        seconds: seconds per image of the instrumented pass, for the images that this run measured; empty if
            all images came from the store.
        paired_seconds: seconds of the instrumented and of the plain pass, for the first images, where both
            were timed.
        heatmap: mean norm-based attention [L, N]; None if images have different layouts.
        examples: the first two images, by id.
        selftest: the outcome of the checks.
        broken: id of an image -> the first layer and module with states that are not finite; such an image
            is NaN in all curves.
        refused: the images that the model or its processor refuses, which are in no curve, and the other
            images of their items.
        stored: the number of images that an earlier run measured.
        patches: the grid of image tokens over a picture; None if there is none, or if it is not known.
        notes: events of the run that do not change the numbers.
    """

    curves: Curves
    controls: dict[str, Curves]
    seconds: list[float]
    paired_seconds: list[tuple[float, float]]
    heatmap: Array | None
    examples: dict[str, ExampleImage]
    selftest: SelfTest = field(repr=False)
    broken: dict[str, str] = field(default_factory=dict)
    refused: tuple[Skip, ...] = ()
    stored: int = 0
    patches: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def plain_seconds(self) -> list[float]:
        """Seconds per image of the plain pass, for the images where it was timed."""
        return [plain for _, plain in self.paired_seconds]


def measure(
    loaded: LoadedModel,
    dataset: str,
    samples: Sequence[Sample],
    settings: Settings,
    on_progress: OnProgress,
    run_rows: set[str] | None = None,
) -> Measurement:
    """Measure ``loaded`` on ``samples``, each image in one instrumented forward pass.

    Images whose rows are in ``settings.store`` are not measured again. A part that fails the self-test is NaN
    in the curves, with the reason in ``provenance["unmeasured"]``.

    Args:
        loaded: the model with its processor and prompt.
        dataset: the name of the dataset.
        samples: the images with their captions.
        settings: the settings of the measurement.
        on_progress: called before and after each batch.
        run_rows: the rows that this run has measured of the model, for any of its datasets (see ``Store``).

    Images that the model or its processor refuses are left out. They are known once all images have passed,
    and the others are then measured as if the refused ones had not been drawn; the store has their rows.

    Raises:
        InputError: an image cannot be read, or the model refuses all or cannot be measured correctly.
        ShareMeasured: this process is not the first of several; its share is measured.
    """
    if not samples:
        raise InputError(f"{dataset}: there are no images to measure")
    refused: list[Skip] = []
    while True:
        rest, partners = whole_items(samples, refused)
        if not rest:
            raise InputError(f"{loaded.name} refuses every image; {refused[0].message}", remedy="prompt")
        try:
            with uncompiled(loaded.model):
                measurement = _measure(loaded, dataset, rest, settings, on_progress, run_rows)
        except RefusedImages as images:
            refused += [skip for sample in samples for skip in _refusals(sample, images.reasons)]
            continue
        return replace(measurement, refused=(*refused, *partners))


def _refusals(sample: Sample, reasons: Mapping[str, str]) -> Iterator[Skip]:
    if reason := reasons.get(sample.id):
        yield Skip(sample.id, str(sample.path), REFUSED, f"{sample.path}: {reason}")


def _measure(
    loaded: LoadedModel,
    dataset: str,
    samples: Sequence[Sample],
    settings: Settings,
    on_progress: OnProgress,
    run_rows: set[str] | None,
) -> Measurement:
    """The measurement of images of which none is refused.

    Raises:
        RefusedImages: some are.
    """
    contents = {sample.id: sample.digest() for sample in samples}
    label = f"{loaded.name} on {dataset}"
    anatomy = _anatomy(loaded, samples, settings)
    batches = split_into_batches(samples, settings.batch_size, loaded.device)
    if settings.shared:
        shards.meet(label)
    outcome = _self_test(loaded, anatomy, _tested(batches, samples))
    passes = _pass_runner(loaded, outcome.restrict(anatomy), settings, run_rows)
    if settings.shared:
        shards.share(passes, batches, on_progress, label)
    scorer = RecallScorer(loaded.processor.tokenizer, samples)
    accumulator = RowAccumulator(passes.anatomy, samples, scorer)
    for row in rows_of_batches(passes, batches, on_progress):
        if not passes.refused:
            accumulator.add(row)
    if passes.refused:
        raise RefusedImages(passes.refused)
    provenance = {
        **run_conditions(loaded, passes.anatomy, dataset, settings, accumulator.layouts),
        "data": digest(contents.values()),
        "images": len(samples),
        "batch_size": min(max(map(len, batches)), passes.batch_limit or len(samples)),
        **({"unmeasured": outcome.unmeasured} if outcome.unmeasured else {}),
    }
    return Measurement(
        curves=Curves.from_arrays(accumulator.arrays(), _items(samples), provenance, contents),
        controls=_controls(passes, samples, settings, scorer, on_progress),
        seconds=accumulator.seconds,
        paired_seconds=accumulator.paired_seconds,
        heatmap=accumulator.heatmap(),
        examples=accumulator.examples,
        selftest=outcome,
        broken=accumulator.broken,
        stored=accumulator.stored,
        patches=_patches(loaded, accumulator.layouts),
        notes=_notes(passes),
    )


def _anatomy(loaded: LoadedModel, samples: Sequence[Sample], settings: Settings) -> Anatomy:
    """The parts of the model, before the self-test.

    Raises:
        InputError: the settings request a norm or controls that are not possible.
        RefusedImages: the processor refuses the first image.
    """
    try:
        anatomy = dissect(loaded.model, loaded.inputs([samples[0].open()]))
    except RefusedError as error:
        raise RefusedImages({samples[0].id: one_line(error.__cause__ or error)}) from error
    forget(anatomy.head)
    if settings.normed_last_layer and anatomy.final_norm is None:
        raise InputError(f"{loaded.name}: no norm follows the last layer", remedy="last_layer")
    if settings.controls:
        controls.check_controls(loaded, anatomy)
    return anatomy


def _tested(batches: Sequence[Sequence[Sample]], samples: Sequence[Sample]) -> Sequence[Sample]:
    """The images of the self-test: as many as a batch has, of growing batches a usual number."""
    return samples[: min(max(map(len, batches)), max(len(batches[0]), ACCELERATOR_BATCH))]


def _self_test(loaded: LoadedModel, anatomy: Anatomy, batch: Sequence[Sample]) -> SelfTest:
    """The self-test on a batch, or on the part of it that fits: the test needs more memory than a pass.

    If an image overflows or is refused, the test runs on the first image alone: ``dissect`` has checked it.
    """
    images = [sample.open() for sample in batch]
    try:
        outcome = run_if_it_fits(lambda: self_test(anatomy, loaded.inputs(images)), len(batch))
    except PASS_ERRORS as error:
        of_all_images = isinstance(error, InputError) and not isinstance(error, NotFiniteError | RefusedError)
        if len(batch) == 1 or of_all_images:
            raise
        return _self_test(loaded, anatomy, batch[:1])
    return outcome or _self_test(loaded, anatomy, batch[: len(batch) // 2])


def _pass_runner(
    loaded: LoadedModel, anatomy: Anatomy, settings: Settings, run_rows: set[str] | None
) -> PassRunner:
    """The runner of the passes with its store, which is empty for a model without a checkpoint's digest."""
    root = settings.store if loaded.checkpoint else None
    about = row_conditions(loaded, anatomy, settings)
    store = Store(root, about, fresh=settings.fresh, carry=settings.shared, run_rows=run_rows)
    choices = {"lens_norm": settings.lens_norm, "normed_last_layer": settings.normed_last_layer}
    limit = store.batch_limit() if settings.batch_size == "auto" else None
    return PassRunner(loaded, anatomy, store, choices, batch_limit=limit)


def _controls(
    passes: PassRunner,
    samples: Sequence[Sample],
    settings: Settings,
    scorer: RecallScorer,
    on_progress: OnProgress,
) -> dict[str, Curves]:
    """The curves of the blank image, and of the optional controls if the settings request them."""
    row = controls.blank(passes, samples[0].open().size)
    blank = stack([{**row.curves, **scorer.score_blank(row)}])
    curves_by_control = {"blank": Curves.from_arrays(blank, {"blank": "blank"})}
    for name, control in controls.OPTIONAL_CONTROLS.items() if settings.controls else ():
        rows = control(passes, samples, seed=settings.seed)
        rows_in_order = list(_with_progress(rows, name, passes, len(samples), on_progress))
        curves = [{**row.curves, **scorer.score(row, index)} for index, row in enumerate(rows_in_order)]
        curves_by_control[name] = Curves.from_arrays(stack(curves), _items(samples[: len(curves)]))
    return curves_by_control


def _with_progress(
    rows: Iterator[Row], control: str, passes: PassRunner, images: int, on_progress: OnProgress
) -> Iterator[Row]:
    """The rows of a control; ``on_progress`` is called before them and after each."""
    before, total = passes.measured, min(controls.CONTROL_IMAGES, images)
    on_progress(ProgressUpdate(0, 0, total, control=control))
    for number, row in enumerate(rows, start=1):
        yield row
        on_progress(ProgressUpdate(number, passes.measured - before, total, control=control))


def _items(samples: Sequence[Sample]) -> dict[str, str]:
    """Image id -> the item that the image belongs to."""
    return {sample.id: sample.item for sample in samples}


def _patches(loaded: LoadedModel, layouts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The grid of image tokens, if all prompts have the same layout with a single span of image tokens."""
    spans = [span for layout in layouts for span in layout["visual"]]
    return patches(loaded, spans[0][1] - spans[0][0]) if len(spans) == 1 else None


def _notes(passes: PassRunner) -> list[str]:
    """The events of the measurement that change no number, in words."""
    notes, store = list(passes.loaded.notes), passes.store
    if is_compiled(passes.loaded.model):
        notes.append(NOTE)
    if unused := passes.loaded.unused_weights:
        names = summary_of_names(unused)
        notes.append(f"{len(unused)} weights of the checkpoint are not used by the model: {names}")
    if sizes := passes.halved_batches:
        notes.append(f"memory ran out with {sizes[0]} images per pass; went on with {passes.batch_limit}")
    if store.damaged:
        notes.append(
            f"{store.damaged} damaged files in the store, their images measured again: {store.folder}"
        )
    if store.trouble:
        notes.append(f"images are not kept for another run: {store.trouble}")
    return notes
