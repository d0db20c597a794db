"""What differs between two measurements besides their numbers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TELLING = (
    "checkpoint", "prompt", "processing", "layout", "lens_norm", "dtype", "device", "torch", "transformers",
)  # fmt: skip
"""Provenance whose difference is named beside a drift."""


def notes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """One line a field that differs, the layout in words; ``processing`` was not always recorded."""
    known = [key for key in TELLING if key != "processing" or (key in before and key in after)]
    pairs = [(key, before.get(key), after.get(key)) for key in known]
    return tuple(_described(key, old, new) for key, old, new in pairs if old != new)


def _described(key: str, before: Any, after: Any) -> str:
    if key == "layout" and isinstance(before, Mapping) and isinstance(after, Mapping):
        return f"layout differs: {layout(before, after)}"
    if key == "processing":
        return "processing differs: the same picture and prompt give other pixels or tokens"
    return f"{key} differs: {before} recorded, {after} now"


def layout(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """``image tokens 576 -> 575, prompt length 620 -> 619``; what is the same is not told."""
    changes = [
        f"{what} {old} -> {new}"
        for what, old, new in (
            ("image tokens", _tokens(before), _tokens(after)),
            ("first at position", _first(before), _first(after)),
            ("runs of them", len(before["visual"]), len(after["visual"])),
            ("prompt length", before["length"], after["length"]),
        )
        if old != new
    ]
    return ", ".join(changes) or "positions of image and text tokens"


def _tokens(found: Mapping[str, Any]) -> int:
    return int(sum(end - start for start, end in found["visual"]))


def _first(found: Mapping[str, Any]) -> int:
    return int(min((start for start, _ in found["visual"]), default=-1))
