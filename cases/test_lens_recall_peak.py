"""Fig. 5: recall of caption words rises through the middle, peaks near depth 33/40 and falls."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_lens_recall_peak(judge: Callable[[str], None]) -> None:
    judge("lens_recall_peak")
