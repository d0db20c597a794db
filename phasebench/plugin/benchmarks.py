"""Recorded durations for pytest-benchmark, and the machine on which they were measured.

The measurement does not run inside the ``benchmark`` fixture, which would repeat it, or under xdist run it
once. Instead a clock of our own replays the recorded seconds.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

LATENCY = "latency"
"""The marker of cases that hand durations to pytest-benchmark."""
COMPARED_FIELDS = ("device", "dtype", "batch_size", "data")
"""Fields in which two durations must agree to be compared; checkpoints may differ."""


class Clock:
    """A clock that moves only when ``advance`` is called; ``timer=Clock.now``."""

    time = 0.0

    @classmethod
    def now(cls) -> float:
        """The seconds that have passed."""
        return cls.time

    @classmethod
    def advance(cls, seconds: float) -> None:
        """Let ``seconds`` pass."""
        cls.time += seconds


def replay(benchmark: Any, name: str, run_id: str, seconds: Sequence[float], extra: dict[str, Any]) -> None:
    """Hand recorded ``seconds`` to pytest-benchmark, under a key that does not depend on the node id."""
    benchmark.group = f"phasebench {name}"
    benchmark.name = f"{name}[{run_id}]"
    benchmark.fullname = _fullname(name, run_id)
    benchmark.extra_info.update(extra)
    durations = iter(seconds)
    benchmark.pedantic(Clock.advance, setup=lambda: ((next(durations),), {}), rounds=len(seconds))


def last_mean(config: pytest.Config, name: str, run_id: str, extra: dict[str, Any]) -> float | None:
    """Mean seconds of the same route in the last saved benchmark, or in that of ``--benchmark-compare``.

    Images, device, precision and batch size must be the same; None if there is no such benchmark.
    """
    session: Any = config._benchmarksession  # type: ignore[attr-defined]
    patterns = (session.compare,) if isinstance(session.compare, str) else ()
    means = [
        float(bench["stats"]["mean"])
        for _, run in session.storage.load(*patterns)
        for bench in run["benchmarks"]
        if bench["fullname"] == _fullname(name, run_id)
        and all(bench["extra_info"].get(key) == extra[key] for key in COMPARED_FIELDS)
    ]
    return means[-1] if means else None


def _fullname(name: str, run_id: str) -> str:
    return f"phasebench::{name}[{run_id}]"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give latency cases our clock; pytest-codspeed refuses pytest-benchmark's settings."""
    if item.get_closest_marker(LATENCY):
        timer = {} if item.config.getoption("codspeed", default=False) else {"timer": Clock.now}
        item.add_marker(pytest.mark.benchmark(**timer))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Let ``--benchmark-only`` see that latency cases are benchmarks.

    They ask for the fixture ``benchmark`` only as they run: in a skipped case it would warn of being unused.
    """
    names: dict[int, list[str]] = {}
    if config.getoption("benchmark_only", default=False):
        cases = [item for item in items if item.get_closest_marker(LATENCY)]
        names = {id(item.fixturenames): item.fixturenames for item in cases}  # type: ignore[attr-defined]
    for fixture_names in names.values():  # cases of one function share a list
        fixture_names.append("benchmark")
    try:
        return (yield)
    finally:
        for fixture_names in names.values():
            fixture_names.remove("benchmark")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the accelerator and the libraries: durations can be compared only if these agree."""
    import torch
    import transformers

    from phasebench.models.devices import pick_device, pick_dtype

    device = pick_device(config.option.device)
    machine_info["phasebench"] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(pick_dtype(config.option.dtype, device)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
