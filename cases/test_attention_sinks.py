"""Fig. 4: the first five positions get more attention than the others, the more so from the middle on."""

from collections.abc import Callable

import pytest


@pytest.mark.finding
def test_attention_sinks(judge: Callable[[str], None]) -> None:
    judge("attention_sinks")
