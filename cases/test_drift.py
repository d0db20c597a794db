"""Every curve against its baseline: within numerical noise on the same images and checkpoint."""

from collections.abc import Callable

import pytest


@pytest.mark.drift
def test_drift(check_drift: Callable[[str], None], curve: str) -> None:
    check_drift(curve)
