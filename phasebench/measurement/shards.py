"""A run in several processes, started by ``accelerate launch`` or ``torchrun``; each measures its share.

All processes run the same cases in the same order. Each measures every n-th batch; the first process gathers
the rows, and only the first process judges, writes and reports. A batch is never split, so the numbers are
those of one process to the last bit. Rows are on the host, so they are sent by gloo whatever the devices.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from torch import distributed

from phasebench import processes
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement.batches import OnProgress, PassRunner, RefusedImages, rows_of_batches

TIMEOUT = timedelta(days=1)
"""Time that a process waits for the other processes; a process that died is noticed at once."""


class ShareMeasured(Exception):  # noqa: N818 - no error: the first process goes on
    """Raised in all processes but the first, once the share is measured; the first process reports."""


class Share(NamedTuple):
    """The result of one process.

    Attributes:
        rows: ``carried`` of its store.
        row_names: ``row_names`` of its ``PassRunner``, so that no image is prepared again.
        failure: the reason why the process could not finish; None if it finished.
        remedy: the failure's ``InputError.remedy``.
    """

    rows: dict[str, tuple[bytes, bool]]
    row_names: dict[tuple[str, ...], list[str]]
    failure: str | None
    remedy: str


def meet(label: str) -> None:
    """Wait until all processes begin the measurement called ``label``.

    Raises:
        InputError: another process measures something else, or is gone.
    """
    _gather_everywhere(label, None)


def share(
    passes: PassRunner, batches: Sequence[Sequence[Sample]], on_progress: OnProgress, label: str
) -> None:
    """Measure this process's part of the batches, then bring all rows to the first process's store.

    ``label`` names the model and the dataset.

    Raises:
        ShareMeasured: this is not the first process.
        RefusedImages: a process has images that the model refuses; the same is raised in all of them.
        InputError: another process failed, measures something else, or is gone; or it measures with
            another environment: another checkpoint, device or version.
    """
    failure = _measure_share(passes, batches, on_progress)
    carried, passes.store.carried = passes.store.carried, {}
    try:
        _check_same_conditions(_gather_everywhere(label, passes.store.about))
    except InputError as mismatch:
        raise failure or mismatch from None
    _leave_out_refused(passes, label, failed=failure is not None)
    message = f"{type(failure).__name__}: {failure}" if failure else None
    shares = _gather_first(Share(carried, passes.row_names, message, getattr(failure, "remedy", "")))
    if failure is not None:
        raise failure
    if processes.rank():
        raise ShareMeasured
    _adopt(passes, shares)


def _leave_out_refused(passes: PassRunner, label: str, *, failed: bool) -> None:
    """Let all processes begin again without the images that one of them found to be refused.

    Raises:
        RefusedImages: there are such images, and no process failed.
    """
    outcomes: list[tuple[bool, dict[str, str]]] = _gather_everywhere(label, (failed, passes.refused))
    refused = {name: reason for _, reasons in outcomes for name, reason in reasons.items()}
    if refused and not any(other_failed for other_failed, _ in outcomes):
        raise RefusedImages(refused)


def _measure_share(
    passes: PassRunner, batches: Sequence[Sequence[Sample]], on_progress: OnProgress
) -> Exception | None:
    """Measure every n-th batch, whose rows the store carries; returns the exception if one is raised."""
    try:
        for _ in rows_of_batches(passes, batches[processes.rank() :: processes.count()], on_progress):
            pass
    except Exception as failure:
        return failure
    return None


def _adopt(passes: PassRunner, shares: Sequence[Share]) -> None:
    """In the first process: take over the rows of the others.

    Raises:
        InputError: another process failed.
    """
    for number, other in enumerate(shares[1:], start=1):
        passes.row_names |= other.row_names
        for name, (data, new) in other.rows.items():
            passes.store.adopt(name, data, new=new)
        if other.failure is not None:
            message = f"process {number} of {len(shares)} failed: {other.failure}"
            raise InputError(message, remedy=other.remedy)


def _check_same_conditions(conditions: Sequence[Mapping[str, Any]]) -> None:
    """Check that all processes measure under the same conditions: the first process stores all rows."""
    for number, other in enumerate(conditions):
        for name, value in other.items():
            if value != conditions[0][name]:
                raise InputError(
                    f"processes do not measure with the same {name}: number 0 {conditions[0][name]}, number "
                    f"{number} {value}; no rows of the others were taken"
                )


def _gather_everywhere(label: str, value: Any) -> list[Any]:
    """The ``value`` of every process, in every process; all of them must pass the same ``label``.

    A process that fails before it measures goes on to its next case while the others wait for it here.
    """
    pairs: list[Any] = [None] * processes.count()
    with _lost_process_as_input_error():
        _process_group().all_gather_object(pairs, (label, value))
    for number, (other_label, _) in enumerate(pairs):
        if other_label != pairs[0][0]:
            raise InputError(
                f"processes no longer measure the same, number 0 {pairs[0][0]}, number {number} "
                f"{other_label}: one of them failed before, and reports why; no rows of the others were taken"
            )
    return [other_value for _, other_value in pairs]


def _gather_first(value: Any) -> list[Any]:
    """The ``value`` of every process, in the first process; empty in the others."""
    values = [None] * processes.count() if processes.rank() == 0 else None
    with _lost_process_as_input_error():
        _process_group().gather_object(value, values)
    return values or []


@contextmanager
def _lost_process_as_input_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"a process of this run is gone; its images are missing ({error})") from error


def _process_group() -> Any:
    """torch.distributed, with the group of processes that the launcher's environment describes."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=TIMEOUT)
        atexit.register(_leave)
    return distributed


def _leave() -> None:
    """Take this process out of the group: if it ends within the group, gloo's threads may abort it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
