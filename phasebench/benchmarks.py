"""What pytest-benchmark is told: recorded durations, replayed, and the machine they were seen on.

The measurement never runs inside the ``benchmark`` fixture, which would repeat it, or under xdist
run it once; its recorded seconds are handed over by a clock of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


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


def replay(benchmark: Any, name: str, place: str, seconds: Sequence[float], extra: dict[str, Any]) -> None:
    """Hand recorded ``seconds`` to pytest-benchmark under a key that no node id changes."""
    benchmark.group = f"phasebench {name}"
    benchmark.name = f"{name}[{place}]"
    benchmark.fullname = f"phasebench::{name}[{place}]"
    benchmark.extra_info.update(extra)
    durations = iter(seconds)
    benchmark.pedantic(Clock.advance, setup=lambda: ((next(durations),), {}), rounds=len(seconds))


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
