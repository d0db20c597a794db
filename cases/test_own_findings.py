"""Claims that the project adds through ``pytest_phasebench_findings``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from phasebench.judge.findings.finding import Finding


@pytest.mark.finding
def test_own_finding(judge: Callable[[Finding], None], own_finding: Finding) -> None:
    judge(own_finding)
