"""Fig. 4: the last text token's saliency accumulates in deep layers and drops in the last few."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_attention_rise_and_drop(judge: Callable[[str], None]) -> None:
    judge("attention_rise_and_drop")
