"""This process among those that ``accelerate launch`` or ``torchrun`` started for one run."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number; the first process, 0, judges and reports."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int | None:
    """This process's number on its machine; None without a launcher."""
    number = os.environ.get("LOCAL_RANK")
    return None if number is None or count() == 1 else int(number)


def worker() -> int | None:
    """The number of the pytest-xdist worker that this process is; None if it is none."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(name.removeprefix("gw")) if name.removeprefix("gw").isdigit() else None
