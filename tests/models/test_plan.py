"""What a plan takes for granted: the device's speed, and what is free on it."""

from __future__ import annotations

import pytest
import torch

from phasebench.models import plan
from phasebench.models.sizes import available_memory

CPU = torch.device("cpu")


def test_the_first_product_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator it takes seconds, and would end the series."""
    seconds = iter([50.0, 1e-3, 1e-3])
    clock = iter([0.0, 0.0, 0.0, 1.0])
    monkeypatch.setattr(plan, "_product_seconds", lambda *_: next(seconds))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert plan.speed(CPU, torch.float32) == 2.0 * (2 * plan.MATRIX_SIDE) ** 3 / 1e-3


def test_free_memory_is_known_of_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (7 + number, 90))
    assert plan.free_bytes("cpu") == pytest.approx(available_memory(), rel=0.2)
    assert plan.free_bytes("cuda:1") == plan.free_bytes("1") == 8
    assert plan.free_bytes("cuda") == 7
    assert plan.free_bytes("disk") is None
