"""Entries as cases attach them, for tests of what is made from them."""

from __future__ import annotations

from typing import Any

from phasebench.catalog import CURVES
from phasebench.report.entries import (
    BaselineEntry,
    Columns,
    ControlRow,
    DriftEntry,
    FindingEntry,
    MeasurementEntry,
    OwnCaseEntry,
    Provenance,
    TimingEntry,
)
from tests.support.synthetic import FOUR

CONTROL: ControlRow = {
    "control": "blank", "value": 0.01, "difference": 0.0113, "low": 0.005, "high": 0.02,
    "differs": True, "note": "rise", "quantity": "",
}  # fmt: skip
COLUMNS: Columns = {
    "layer": list(range(41)), "mean": [float(value) for value in FOUR], "se": [0.01] * 41, "n": [60] * 41,
}  # fmt: skip
"""A curve with four phases over 41 layers."""
PHASES = {
    "pattern": ["rise", "fall", "rise", "fall"],
    "layers": [3, 10, 33],
    "low": [3, 9, 33],
    "high": [4, 11, 34],
}
"""What ``four_phases`` adds to its verdict."""
PROVENANCE: Provenance = {
    "model": "m", "architecture": "llava", "checkpoint": "ba3294baf371b48e", "dataset": "d",
    "data": "0123456789abcdef", "images": 60, "prompt": "USER: <image>",
    "layout": {"length": 50, "visual": [[3, 39]], "text": 14}, "seed": 0, "lens_norm": True,
    "batch_size": 1, "device": "cpu (x86_64)", "dtype": "float32", "torch": "2.13.0",
    "transformers": "5.23.0", "phasebench": "0.1.0",
}  # fmt: skip


def finding(**changes: Any) -> FindingEntry:
    """``four_phases`` holds, as recorded."""
    fields: dict[str, Any] = {
        "run": "m/d", "id": "four_phases", "verdict": "holds", "recorded": "holds",
        "value": 0.0213, "low": 0.01, "high": 0.031, "passed": True,
        "detail": "rise, fall, rise, fall", "controls": [CONTROL], "margin": 2.5, "images_needed": None,
        "subject": "height of phase 4", "bound": 0.001,
        "line": "height of phase 4: 0.0213 [0.01, 0.031] (must be above 0.001)",
    }  # fmt: skip
    return FindingEntry(**{**fields, **changes})


def drift(curve: str, excess: float | None, *, passed: bool, **changes: Any) -> DriftEntry:
    """A curve compared with its baseline on the same four images; worst at layer 7."""
    fields: dict[str, Any] = {
        "run": "m/d", "curve": curve, "layer": 7, "excess": excess, "recorded": 0.5, "measured": 0.6,
        "passed": passed, "shared": 4, "images": 4, "effect": 1.5,
    }  # fmt: skip
    return DriftEntry(**{**fields, **changes})


def measurement(**changes: Any) -> MeasurementEntry:
    """Every curve has the four phases of ``COLUMNS``."""
    fields: dict[str, Any] = {
        "run": "m/d", "passed": True, "curves": dict.fromkeys(CURVES, COLUMNS), "controls": {},
        "timing": {"pass": 0.696, "plain": 0.134, "ratio": 5.09, "total": 41.76},
        "heatmap": None, "heatmaps": {}, "words": {}, "pictures": {}, "patches": None,
        "layout": PROVENANCE["layout"],
        "selftest": {
            "bit_equal": True, "attention_rows": 9, "layers": 41, "completeness": 1e-7, "gates": 1e-7,
            "lens_agreement": 1e-7, "unmeasured": {},
        },
        "broken": {}, "provenance": PROVENANCE, "images": ["a", "b"], "stored": 0, "notes": [],
        "skipped": [],
    }  # fmt: skip
    return MeasurementEntry(**{**fields, **changes})


def timing(route: str, seconds: float, stored: float | None) -> TimingEntry:
    """Durations of a route, ``pass`` or ``plain``, beside those of the stored benchmark."""
    return TimingEntry(run="m/d", passed=True, route=route, seconds=seconds, stored=stored)


def baseline(name: str, **changes: Any) -> BaselineEntry:
    """A curve or verdict compared with the same checkpoint under the same prompt."""
    fields: dict[str, Any] = {
        "run": "m/d", "name": name, "checkpoint": "ba3294baf371b48e", "prompt": "USER: <image>",
        "baseline": "m", "baseline_folder": "/project/baselines/m/d",
        "baseline_checkpoint": "ba3294baf371b48e", "baseline_prompt": "USER: <image>",
    }  # fmt: skip
    return BaselineEntry(**{**fields, **changes})


def own_case(case: str, *, passed: bool, run: str = "m/d") -> OwnCaseEntry:
    """A case of the user's own."""
    return OwnCaseEntry(run=run, passed=passed, case=case)
