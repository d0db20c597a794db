"""What pytest-benchmark is told: recorded durations, replayed, and the machine they were seen on.

The measurement never runs inside the ``benchmark`` fixture, which would repeat it, or under xdist
run it once; its recorded seconds are handed over by a clock of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

LIKE = ("device", "dtype", "batch_size", "data")
"""What two durations must share to be compared; checkpoints may differ."""


class Clock:
    """A clock that stands still until it is told what passed; ``timer=Clock.now``."""

    time = 0.0

    @classmethod
    def now(cls) -> float:
        """Seconds told so far."""
        return cls.time

    @classmethod
    def advance(cls, seconds: float) -> None:
        """Let ``seconds`` pass."""
        cls.time += seconds


def replay(benchmark: Any, name: str, run_id: str, seconds: Sequence[float], extra: dict[str, Any]) -> None:
    """Hand recorded ``seconds`` to pytest-benchmark under a key that no node id changes."""
    benchmark.group = f"phasebench {name}"
    benchmark.name = f"{name}[{run_id}]"
    benchmark.fullname = _fullname(name, run_id)
    benchmark.extra_info.update(extra)
    durations = iter(seconds)
    benchmark.pedantic(Clock.advance, setup=lambda: ((next(durations),), {}), rounds=len(seconds))


def stored(config: pytest.Config, name: str, run_id: str, extra: dict[str, Any]) -> float | None:
    """Mean seconds of the same durations in the last saved benchmark, or that of ``--benchmark-compare``.

    Only of the same images, device, precision and batch size; None where there is none such.
    """
    session: Any = config._benchmarksession  # type: ignore[attr-defined]
    chosen = (session.compare,) if isinstance(session.compare, str) else ()
    means = [
        float(bench["stats"]["mean"])
        for _, run in session.storage.load(*chosen)
        for bench in run["benchmarks"]
        if bench["fullname"] == _fullname(name, run_id)
        and all(bench["extra_info"].get(key) == extra[key] for key in LIKE)
    ]
    return means[-1] if means else None


def _fullname(name: str, run_id: str) -> str:
    return f"phasebench::{name}[{run_id}]"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Name the accelerator and the libraries: durations compare only where these agree."""
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
