"""All kinds of faults."""

from __future__ import annotations

from tests.faults import blocks, images, small, tokens, vision_encoder, weights
from tests.faults.kinds import FAULTS, Fault

MODULES = (images, tokens, vision_encoder, blocks, weights, small)

__all__ = ["FAULTS", "MODULES", "Fault"]
