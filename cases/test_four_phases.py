"""Fig. 1: similarity between modalities rises, falls, rises and falls with depth."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_four_phases(judge: Callable[[str], None]) -> None:
    judge("four_phases")
