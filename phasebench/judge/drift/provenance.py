"""Differences between the provenance of two measurements, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMPARED_FIELDS = (
    "checkpoint", "prompt", "processing", "tokenizers", "layout", "lens_norm", "last_layer", "dtype",
    "quantization", "device", "torch", "transformers",
)  # fmt: skip
"""Fields of the provenance whose difference is named beside a drift."""
DEFINITIONS = ("processing", "tokenizers", "lens_norm", "last_layer")
"""Fields whose difference is named even where nothing drifted: the two sides measured different things."""
OPTIONAL = ("processing", "tokenizers")
"""Fields that old baselines lack; they are not compared then."""
DEFAULTS = {"last_layer": "raw", "quantization": "none"}
"""What holds where the field is missing: in old baselines, or for plain weights."""


def notes(
    before: Mapping[str, Any], after: Mapping[str, Any], fields: Sequence[str] = COMPARED_FIELDS
) -> tuple[str, ...]:
    """One line for each of the fields that differs."""
    keys = [key for key in fields if key not in OPTIONAL or (key in before and key in after)]
    pairs = [(key, *(side.get(key, DEFAULTS.get(key)) for side in (before, after))) for key in keys]
    return tuple(_describe(key, old, new) for key, old, new in pairs if old != new)


def _describe(key: str, before: Any, after: Any) -> str:
    if key == "layout" and isinstance(before, Mapping) and isinstance(after, Mapping):
        return f"layout differs: {layout(before, after)}"
    if key == "processing":
        return "processing differs: the same picture and prompt give other pixels or tokens"
    if key == "tokenizers":
        names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        return f"tokenizers differ: another {' and '.join(names)} (vocabulary, merges or special tokens)"
    return f"{key} differs: {before} recorded, {after} now"


def layout(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The changes of a prompt's layout: ``image tokens 576 -> 575, prompt length 620 -> 619``."""
    changes = [
        f"{name} {old} -> {new}"
        for name, old, new in (
            ("image tokens", _tokens(before), _tokens(after)),
            ("first at position", _first(before), _first(after)),
            ("runs of them", len(before["visual"]), len(after["visual"])),
            ("prompt length", before["length"], after["length"]),
        )
        if old != new
    ]
    return ", ".join(changes) or "positions of image and text tokens"


def _tokens(prompt_layout: Mapping[str, Any]) -> int:
    return int(sum(end - start for start, end in prompt_layout["visual"]))


def _first(prompt_layout: Mapping[str, Any]) -> int:
    return int(min((start for start, _ in prompt_layout["visual"]), default=-1))
