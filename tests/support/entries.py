"""Entries as cases attach them, for tests of what is made from them."""

from __future__ import annotations

from typing import Any

from phasebench.catalog import CURVES
from tests.support.synthetic import FOUR

CONTROL = {
    "control": "blank", "value": 0.01, "difference": 0.0113, "low": 0.005, "high": 0.02,
    "differs": True, "note": "rise",
}  # fmt: skip


def finding(**changes: Any) -> dict[str, Any]:
    entry = {
        "kind": "finding", "run": "m/d", "id": "four_phases", "verdict": "holds", "recorded": "holds",
        "value": 0.0213, "low": 0.01, "high": 0.031, "passed": True,
        "detail": "rise, fall, rise, fall", "controls": [CONTROL], "margin": 2.5, "images_needed": None,
    }  # fmt: skip
    return {**entry, **changes}


def drift(curve: str, excess: float | None, *, passed: bool, **changes: Any) -> dict[str, Any]:
    entry = {
        "kind": "drift", "run": "m/d", "curve": curve, "layer": 7, "excess": excess,
        "recorded": 0.5, "measured": 0.6, "passed": passed, "shared": 4, "images": 4, "effect": 1.5,
        "told": [], "updated": False,
    }  # fmt: skip
    return {**entry, **changes}


def measurement(**changes: Any) -> dict[str, Any]:
    """Every curve is the four phases' own, over 41 layers."""
    mean = [float(value) for value in FOUR]
    table = {"layer": list(range(41)), "mean": mean, "se": [0.01] * 41, "n": [60] * 41}
    entry = {
        "kind": "measurement", "run": "m/d", "passed": True, "curves": dict.fromkeys(CURVES, table),
        "timing": {"pass": 0.696, "plain": 0.134, "ratio": 5.09, "total": 41.76}, "stored": 0,
        "layout": {"length": 50, "visual": [[3, 39]]}, "notes": [], "skipped": [], "images": ["a", "b"],
        "provenance": {
            "architecture": "llava", "checkpoint": "ba3294baf371b48e", "images": 60, "dataset": "d",
            "device": "cpu (x86_64)", "dtype": "float32", "torch": "2.13.0", "transformers": "5.23.0",
        },
    }  # fmt: skip
    return {**entry, **changes}


PHASES = {
    "pattern": ["rise", "fall", "rise", "fall"],
    "layers": [3, 10, 33],
    "low": [3, 9, 33],
    "high": [4, 11, 34],
}
