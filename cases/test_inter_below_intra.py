"""Fig. 3: at every layer from 1 on, similarity between modalities is below that within each."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_inter_below_intra(judge: Callable[[str], None]) -> None:
    judge("inter_below_intra")
