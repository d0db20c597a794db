"""The number and rank of the processes that ``accelerate launch`` or ``torchrun`` started for one run."""

from __future__ import annotations

import os


def count() -> int:
    """The number of processes of this run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among all; the first process, 0, judges and reports."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int | None:
    """The number of this process on its machine; None without a launcher or with a single process."""
    number = os.environ.get("LOCAL_RANK")
    return None if number is None or count() == 1 else int(number)


def worker() -> int | None:
    """The number of this pytest-xdist worker; None if this process is not a worker."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(name.removeprefix("gw")) if name.removeprefix("gw").isdigit() else None
