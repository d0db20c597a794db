"""Section 3.3: recall peaks where phase III ends and phase IV begins."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_lens_follows_phases(judge: Callable[[str], None]) -> None:
    judge("lens_follows_phases")
