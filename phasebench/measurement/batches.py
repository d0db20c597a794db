"""Rows of images in batches, from the store or an instrumented pass; halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from PIL.Image import Image

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError, RefusedError, one_line
from phasebench.measurement.passes import Row, plain_pass, probed_pass
from phasebench.measurement.row_key import row_names
from phasebench.measurement.row_store import Store
from phasebench.models.anatomy.adapter import Anatomy, Inputs, forward
from phasebench.models.loading import LoadedModel
from phasebench.models.memory import empty_caches, is_out_of_memory, out_of_memory_error
from phasebench.settings import BatchSize

TIMED_BATCHES = 8
"""Number of batches whose plain pass is timed too, each just before its instrumented pass."""
ACCELERATOR_BATCH = 8
"""Usual number of images per pass on an accelerator, which is slow at starting many small products."""
MAX_BATCH = 64
"""Largest batch that is tried if the batch size is automatic."""
PASS_ERRORS = (RuntimeError, ValueError, IndexError, TypeError)
"""The exceptions that models raise for unsuitable inputs."""
Work = TypeVar("Work")


@dataclass(frozen=True)
class ProgressUpdate:
    """The progress of a measurement.

    Attributes:
        images: the number of finished images.
        measured: how many of these passed through the model; the others came from the store.
        total: the number of all images.
        trouble: the reason why rows cannot be stored; None if they can.
        control: the name of the control that is measured; empty for the measurement itself.
    """

    images: int
    measured: int
    total: int
    trouble: str | None = None
    control: str = ""


OnProgress = Callable[[ProgressUpdate], None]


class RefusedImages(Exception):  # noqa: N818 - no error: the other images are measured
    """Raised once all images have passed, if the model or its processor refused some."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__()
        self.reasons = reasons


@dataclass
class PassRunner:
    """Returns the rows of images, from the store or by a pass, so that each image is measured once.

    Attributes:
        loaded: the model with its processor and prompt.
        anatomy: the model's parts.
        store: the store of rows.
        choices: the choices of ``passes.watch``: ``lens_norm``, ``normed_last_layer``.
        batch_limit: the largest number of images per pass since memory ran out; None if it has not. It is
            kept in the store, so that the next run with automatic batches finds their rows.
        halved_batches: the batch sizes that did not fit into memory.
        measured: the number of images that went through a pass so far.
        timed_batches: the number of batches whose plain pass was timed so far.
        row_names: ids of a batch's images -> the names of their rows, so that a second request for the batch
            needs no processor.
        refused: id of an image that the model or its processor refused -> the reason.
    """

    loaded: LoadedModel
    anatomy: Anatomy
    store: Store
    choices: dict[str, bool] = field(default_factory=dict)
    batch_limit: int | None = None
    halved_batches: list[int] = field(default_factory=list)
    measured: int = 0
    timed_batches: int = 0
    row_names: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def rows(self, batch: Sequence[Sample], *, timed: bool = False) -> list[Row]:
        """The rows of these images; with ``timed``, the plain pass of the first batches is timed too.

        An image that the model or its processor refuses has no row; it is added to ``refused``.
        """
        ids = tuple(sample.id for sample in batch)
        if ids in self.row_names and (rows := self.store.read_batch(self.row_names[ids])):
            return rows
        try:
            names, rows = self._named_rows([sample.open() for sample in batch], timed=timed)
        except RefusedError as error:
            if len(batch) > 1:
                return [row for sample in batch for row in self.rows([sample])]
            self.refused[batch[0].id] = one_line(error.__cause__ or error)
            return []
        self.row_names[ids] = names
        return rows

    def rows_of_images(self, images: Sequence[Image], kind: str = "") -> list[Row]:
        """The rows of opened images; ``kind`` names the change that a control made to the model, if any."""
        _, rows = self._named_rows(images, kind)
        return rows

    def keep(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Count and store rows that were measured; returns them as the store will read them."""
        self.measured += len(rows)
        return self.store.keep_batch(names, rows)

    def _named_rows(
        self, images: Sequence[Image], kind: str = "", *, timed: bool = False
    ) -> tuple[list[str], list[Row]]:
        """The rows of opened images, and the rows' names in the store."""
        inputs = self.loaded.inputs(images)
        names = row_names(kind, inputs)
        rows = self.store.read_batch(names)
        if rows is not None:
            return names, rows
        if self.batch_limit is None or len(images) <= self.batch_limit:
            rows = self._measure(inputs, timed=timed)
            if rows is not None:
                return names, self.keep(names, rows)
            self.halved_batches.append(len(images))
            self.batch_limit = len(images) // 2
            self.store.note_batch_limit(self.batch_limit)
        limit = self.batch_limit
        first_names, first_rows = self._named_rows(images[:limit], kind, timed=timed)
        other_names, other_rows = self._named_rows(images[limit:], kind, timed=timed)
        return first_names + other_names, first_rows + other_rows

    def _measure(self, inputs: Inputs, *, timed: bool) -> list[Row] | None:
        """The rows of one pass over a batch; None if memory runs out."""
        try:
            return self._measured_rows(inputs, timed=timed)
        except InputError:
            raise
        except PASS_ERRORS as error:
            if refusal := self._refusal(inputs):
                raise refusal from error
            raise

    def _measured_rows(self, inputs: Inputs, *, timed: bool) -> list[Row] | None:
        images, plain_seconds = len(inputs["input_ids"]), None
        if timed and self.timed_batches < TIMED_BATCHES and self.batch_limit is None:
            self.timed_batches += 1
            plain_seconds = run_if_it_fits(lambda: plain_pass(self.anatomy, inputs), images)
            if plain_seconds is None:
                return None
        rows = run_if_it_fits(lambda: probed_pass(self.anatomy, inputs, **self.choices), images)
        return rows and [replace(row, plain_seconds=plain_seconds) for row in rows]

    def _refusal(self, inputs: Inputs) -> RefusedError | None:
        """The error if the model refuses these inputs without the probe too; None if it takes them."""
        try:
            forward(self.anatomy.model, inputs)
        except PASS_ERRORS as error:
            if not is_out_of_memory(error):
                return RefusedError(one_line(error))
        return None


def rows_of_batches(
    passes: PassRunner, batches: Sequence[Sequence[Sample]], on_progress: OnProgress
) -> Iterator[Row]:
    """The rows of these batches in order; ``on_progress`` is called before them and after each batch."""
    images, before, total = 0, passes.measured, sum(map(len, batches))
    on_progress(ProgressUpdate(0, 0, total))
    for batch in batches:
        yield from passes.rows(batch, timed=True)
        images += len(batch)
        on_progress(ProgressUpdate(images, passes.measured - before, total, passes.store.trouble))


def split_into_batches(
    samples: Sequence[Sample], size: BatchSize, device: torch.device
) -> list[Sequence[Sample]]:
    """The samples in order, ``size`` at a time.

    If the size is automatic, each batch has twice as many as the one before, up to ``MAX_BATCH``: those that
    do not fit are halved by the passes.
    """
    batches, start = [], 0
    count = 1 if size == "auto" else size or (1 if device.type == "cpu" else ACCELERATOR_BATCH)
    while start < len(samples):
        batches.append(samples[start : start + count])
        start += count
        if size == "auto":
            count = min(2 * count, MAX_BATCH)
    return batches


def run_if_it_fits(work: Callable[[], Work], images: int) -> Work | None:
    """The result of ``work`` on ``images`` images; None if main memory or a device's memory ran out.

    Raises:
        InputError: memory runs out with a single image.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if images == 1:
            raise out_of_memory_error("the pass", error) from error
    empty_caches()
    return None
