"""All kinds of faults."""

from __future__ import annotations

from tests.faults import blocks, eyes, images, tokens, weights
from tests.faults.kinds import FAULTS, Fault

MODULES = (images, tokens, eyes, blocks, weights)

__all__ = ["FAULTS", "MODULES", "Fault"]
