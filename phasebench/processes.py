"""The process's place among those that ``accelerate launch`` or ``torchrun`` started for one run."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This one's number; the first, 0, judges and reports."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int | None:
    """Its number on this machine; None without a launcher."""
    number = os.environ.get("LOCAL_RANK")
    return None if number is None or count() == 1 else int(number)


def worker() -> int | None:
    """The number of pytest-xdist's worker that this is; None outside one."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(name.removeprefix("gw")) if name.removeprefix("gw").isdigit() else None
