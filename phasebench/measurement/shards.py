"""Several processes, one run: ``accelerate launch`` or ``torchrun`` starts them, each measures its share.

Every process goes through the same cases in the same order. Each measures every n-th batch; the first
gathers the rows and alone judges, writes and reports. A batch is never split, so that the numbers are
those of one process to the last bit. Rows are host data: they travel by gloo, whatever the devices.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch import distributed

from phasebench import processes
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement.batches import OnProgress, PassRunner, rows_of

PATIENCE = timedelta(days=1)
"""How long a process waits for the others' shares; one that died is noticed at once."""


class Elsewhere(Exception):  # noqa: N818 - no error: the first process goes on
    """This process has measured its share; the first one reports."""


def agreed(size: int, label: str) -> int:
    """The smallest of all processes' ``size``: they must make the same batches.

    Raises:
        InputError: another process measures something else, or is gone.
    """
    sizes: list[int] = _met(label, size)
    return min(sizes)


def share(passes: PassRunner, batches: Sequence[Sequence[Sample]], progress: OnProgress, label: str) -> None:
    """Measure this process's part of the batches, then bring all rows to the first process's store.

    ``label`` names what is measured on what.

    Raises:
        Elsewhere: this is not the first process.
        InputError: another process failed, measures something else, or is gone; or it measures with
            another environment: another checkpoint, device or version.
    """
    failure = None
    try:
        for _ in rows_of(passes, batches[processes.rank() :: processes.count()], progress):
            pass  # the store carries it
    except Exception as error:
        failure = error
    carried, passes.store.carried = passes.store.carried, {}
    try:
        _refuse_others(_met(label, passes.store.about))
    except InputError as apart:
        raise failure or apart from None
    told = _gathered((carried, passes.row_names, f"{type(failure).__name__}: {failure}" if failure else None))
    if failure is not None:
        raise failure
    if processes.rank():
        raise Elsewhere
    for number, (rows, row_names, failed) in enumerate(told[1:], start=1):
        passes.row_names |= row_names  # so that none of their images is prepared once more
        for name, (data, new) in rows.items():
            passes.store.adopt(name, data, new=new)
        if failed is not None:
            raise InputError(f"process {number} of {len(told)} failed: {failed}")


def _met(label: str, own: Any) -> list[Any]:
    """What each process gave, all of them under the same label.

    A process that fails before it measures goes on to its next case while the others wait for it here.
    """
    told: list[Any] = [None] * processes.count()
    with _all_here():
        _joined().all_gather_object(told, (label, own))
    for number, (other, _) in enumerate(told):
        if other != told[0][0]:
            raise InputError(
                f"processes no longer measure the same, number 0 {told[0][0]}, number {number} {other}: "
                "one of them failed before, and says with what; no rows of the others were taken"
            )
    return [given for _, given in told]


def _refuse_others(abouts: Sequence[Mapping[str, Any]]) -> None:
    """See that all rows are measured with the same: they are kept as the first process's."""
    for number, about in enumerate(abouts):
        for name, value in about.items():
            if value != abouts[0][name]:
                raise InputError(
                    f"processes do not measure with the same {name}: number 0 {abouts[0][name]}, number "
                    f"{number} {value}; no rows of the others were taken"
                )


def _gathered(own: Any) -> list[Any]:
    """What each process gave; empty but in the first."""
    told = [None] * processes.count() if processes.rank() == 0 else None
    with _all_here():
        _joined().gather_object(own, told)
    return told or []


@contextmanager
def _all_here() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"a process of this run is gone; its images are lacking ({error})") from error


def _joined() -> Any:
    """torch.distributed, with the group of processes that the launcher's environment describes."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
        atexit.register(_leave)
    return distributed


def _leave() -> None:
    """Take this process out of the group: one that ends within it may be aborted by gloo's threads."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
