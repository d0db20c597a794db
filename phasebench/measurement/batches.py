"""Images in batches: the rows kept of them, or one instrumented pass; halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from PIL.Image import Image

from phasebench.datasets.sample import Sample
from phasebench.measurement.passes import Row, plain_pass, probed_pass
from phasebench.measurement.row_store import Store, names_of
from phasebench.models.anatomy.adapter import Anatomy, Inputs
from phasebench.models.devices import empty_caches, lacks_memory, no_room
from phasebench.models.loading import Loaded

PLAIN = 8
"""Batches whose plain forward pass is timed too, each just before its instrumented one."""
MAX_BATCH = 64
"""Largest batch that ``--batch-size auto`` tries."""
Work = TypeVar("Work")


@dataclass(frozen=True)
class ProgressUpdate:
    """How far a measurement is.

    Attributes:
        images: those whose rows are known.
        measured: those of them that went through a pass for it; the others were read from the store.
        total: images in all.
        trouble: why not all of them are kept; None if they are.
        control: whose images they are; "" for the measured ones.
    """

    images: int
    measured: int
    total: int
    trouble: str | None = None
    control: str = ""


OnProgress = Callable[[ProgressUpdate], None]


@dataclass
class PassRunner:
    """Instrumented passes of one model, each once.

    Attributes:
        store: where their rows are kept.
        fits: images a pass takes since memory ran out; None while it has not.
        halved: the sizes that did not fit.
        measured: images that went through a pass so far.
        row_names: ids of a batch's images -> the names of their rows, which else take a processor to tell.
    """

    loaded: Loaded
    anatomy: Anatomy
    store: Store
    lens_norm: bool = True
    fits: int | None = None
    halved: list[int] = field(default_factory=list)
    measured: int = 0
    row_names: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _plain: int = 0
    _names: list[str] = field(default_factory=list)

    def rows(self, batch: Sequence[Sample], *, timed: bool = False) -> list[Row]:
        """The rows of these images; with ``timed`` the plain pass of the run's first batches beside them."""
        ids = tuple(sample.id for sample in batch)
        if ids in self.row_names and (known := self.store.known(self.row_names[ids])):
            return known
        self._names = []
        rows = self.rows_of_images([sample.open() for sample in batch], timed=timed)
        self.row_names[ids], self._names = self._names, []
        return rows

    def rows_of_images(self, images: Sequence[Image], kind: str = "", *, timed: bool = False) -> list[Row]:
        """The same; ``kind`` tells what was done to the model from what it is."""
        inputs = self.loaded.inputs(images)
        names = names_of(kind, inputs)
        known = self.store.known(names)
        if known is not None:
            self._names += names
            return known
        if self.fits is None or len(images) <= self.fits:
            rows = self._measured(inputs, timed=timed)
            if rows is not None:
                return self.keep(names, rows)
            self.halved.append(len(images))
            self.fits = len(images) // 2
        halves = images[: len(images) // 2], images[len(images) // 2 :]
        return [row for half in halves for row in self.rows_of_images(half, kind, timed=timed)]

    def keep(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Count and keep what was measured; gives it as the store does."""
        self._names += names
        self.measured += len(rows)
        return self.store.keep(names, rows)

    def _measured(self, inputs: Inputs, *, timed: bool) -> list[Row] | None:
        """One pass over a batch; None where memory runs out."""
        images, plain = len(inputs["input_ids"]), None
        if timed and self._plain < PLAIN and self.fits is None:
            self._plain += 1
            plain = where_it_fits(lambda: plain_pass(self.anatomy, inputs), images)
            if plain is None:
                return None
        rows = where_it_fits(lambda: probed_pass(self.anatomy, inputs, lens_norm=self.lens_norm), images)
        return rows and [replace(row, plain=plain) for row in rows]


def rows_of(passes: PassRunner, batches: Sequence[Sequence[Sample]], progress: OnProgress) -> Iterator[Row]:
    """The rows of these batches, one after the other; ``progress`` is told before them and after each."""
    images, before, total = 0, passes.measured, sum(map(len, batches))
    progress(ProgressUpdate(0, 0, total))
    for batch in batches:
        yield from passes.rows(batch, timed=True)
        images += len(batch)
        progress(ProgressUpdate(images, passes.measured - before, total, passes.store.trouble))


def in_batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """The samples in order, ``size`` at a time."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def largest_batch(loaded: Loaded, anatomy: Anatomy, samples: Sequence[Sample]) -> int:
    """How many images a pass takes before memory runs out, by doubling, at most ``MAX_BATCH``."""

    def rows(images: int) -> list[Row] | None:
        opened = [sample.open() for sample in samples[:images]]
        return where_it_fits(lambda: probed_pass(anatomy, loaded.inputs(opened)), images)

    size = 1
    while 2 * size <= min(MAX_BATCH, len(samples)) and rows(2 * size) is not None:
        size *= 2
    return size


def where_it_fits(work: Callable[[], Work], images: int) -> Work | None:
    """What ``work`` on so many images gives; None where memory ran out, main memory's or a device's.

    Raises:
        InputError: memory runs out with one image already.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        if images == 1:
            raise no_room("the pass", error) from error
    empty_caches()
    return None
