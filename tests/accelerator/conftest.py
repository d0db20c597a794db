"""The pretended devices, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.accelerator.costs import Costs
from tests.accelerator.device import COSTS
from tests.accelerator.pretend import load_guard, pretended_devices


@pytest.fixture
def costs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """The costs so far; within the test, tensors can be moved to ``cuda:N``."""
    load_guard(tmp_path_factory.getbasetemp())
    with pretended_devices(monkeypatch):
        yield COSTS
