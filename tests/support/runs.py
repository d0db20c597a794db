"""What tests of whole runs share: how many cases a model and dataset have, and the type of ``run``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from phasebench.catalog import CURVES
from tests.support.paths import ROOT

if TYPE_CHECKING:
    import pytest

FINDING_IDS = tuple(
    sorted(
        path.stem.removeprefix("test_")
        for path in (ROOT / "cases").glob("test_*.py")
        if "@finding(" in path.read_text(encoding="utf-8")
    )
)
"""The paper's findings, without an import of the case files."""
DRIFT, FINDING, LATENCY = len(CURVES), len(FINDING_IDS), 2
"""Cases of one model on one dataset, by marker."""
Run = Callable[..., "pytest.RunResult"]
"""``run("--model", "tiny-llava", ...)``: see the fixture of that name."""
