"""Conversion of measurements, verdicts and differences into entries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from phasebench.catalog import CURVES
from phasebench.curves import Array, Curves
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.record import DIGITS, Record, columns
from phasebench.judge.findings.finding import Finding
from phasebench.judge.findings.verdict import Verdict
from phasebench.judge.statistics import rounded_number
from phasebench.report.entries import (
    Columns,
    ControlRow,
    DifferenceColumns,
    DriftEntry,
    FindingEntry,
    MeasurementEntry,
    Picture,
    Provenance,
    Rows,
    SelfTestSummary,
    Skip,
    Timing,
)

if TYPE_CHECKING:
    from phasebench.measurement.accumulate import ExampleImage
    from phasebench.measurement.measure import Measurement


def measurement_entry(measured: Measurement, skipped: Sequence[Mapping[str, str]] = ()) -> MeasurementEntry:
    """The entry of a measurement.

    Args:
        measured: the measurement.
        skipped: the dataset's images that were not measured, each in the form of ``Skip``.
    """
    provenance = cast("Provenance", dict(measured.curves.provenance))
    examples = measured.examples
    return MeasurementEntry(
        curves={name: curve_columns(measured.curves, name) for name in CURVES},
        controls={
            control: {name: curve_columns(curves, name) for name in curves.names}
            for control, curves in measured.controls.items()
        },
        timing=timing(measured.seconds, measured.paired_seconds),
        heatmap=None if measured.heatmap is None else _heatmap(measured.heatmap),
        heatmaps={name: _heatmap(example.norms) for name, example in examples.items()},
        words={name: example.words for name, example in examples.items()},
        pictures={name: _picture(example) for name, example in examples.items()},
        patches=cast("Any", measured.patches),
        layout=provenance["layout"],
        selftest=cast("SelfTestSummary", measured.selftest.as_dict()),
        broken=dict(measured.broken),
        provenance=provenance,
        images=list(measured.curves.items),
        stored=measured.stored,
        notes=list(measured.notes),
        skipped=[cast("Skip", dict(skip)) for skip in skipped],
    )


def _picture(example: ExampleImage) -> Picture:
    sample = example.sample
    return Picture(
        path=str(sample.path), captions=list(sample.captions), references=sorted(example.references)
    )


def _heatmap(norms: Array) -> Rows:
    """Norm-based attention of the last text token [L, N], to six digits."""
    return [[rounded_number(float(value), 6) for value in row] for row in norms]


def curve_columns(curves: Curves, name: str) -> Columns:
    """One curve as columns; None where it has no value."""
    table = curves.summary(name)
    return Columns(
        layer=[int(layer) for layer in table.index],
        mean=[_finite(value) for value in table["mean"]],
        se=[_finite(value) for value in table["se"]],
        n=[int(value) for value in table["n"]],
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def timing(seconds: Sequence[float], pairs: Sequence[tuple[float, float]]) -> Timing:
    """Mean seconds per image of the pass and the plain pass, their ratio on the same images, and the total.

    All are None if every image came from the store.

    Args:
        seconds: of the instrumented pass, for each image that this run measured.
        pairs: seconds of the instrumented and of the plain pass, for the few images where both were timed.
            The ratio leaves out the first pair, which warms up.
    """
    if not seconds:
        return {"pass": None, "plain": None, "ratio": None, "total": None}
    warm = pairs[1:]
    ratio = fmean(first for first, _ in warm) / fmean(plain for _, plain in warm) if warm else None
    return {
        "pass": fmean(seconds),
        "plain": fmean(plain for _, plain in pairs) if pairs else None,
        "ratio": ratio,
        "total": sum(seconds),
    }


def finding_entry(finding: Finding, verdict: Verdict, recorded: str | None) -> FindingEntry:
    """The entry of a verdict; ``recorded`` is the baseline's: None without one, empty if it is unreadable."""
    numbers = verdict.as_dict()
    controls = [cast("ControlRow", row) for row in numbers.pop("controls")]
    return FindingEntry(
        id=finding.id,
        claim=finding.claim,
        source=finding.source,
        order=finding.order,
        controls=controls,
        recorded=recorded,
        data=dict(verdict.data),
        **numbers,
    )


def drift_entry(curve: str, difference: Difference | None, recorded: Record | None) -> DriftEntry:
    """The entry of a curve's comparison, with the numbers of the worst layer.

    Args:
        curve: the curve's name.
        difference: its difference from the baseline; None if they were not compared.
        recorded: the baseline, if there is one.
    """
    if difference is None:
        return DriftEntry(curve=curve)
    layer = difference.worst
    excess, change = float(difference.excess[layer]), _at(difference.measured - difference.recorded, layer)
    half = _at(difference.half_width, layer)
    low, high = (None, None) if change is None or half is None else (change - half, change + half)
    return DriftEntry(
        curve=curve,
        layer=layer,
        excess=0.0 if math.isnan(excess) else rounded_number(excess, DIGITS),
        recorded=_at(difference.recorded, layer),
        measured=_at(difference.measured, layer),
        low=low,
        high=high,
        effect=None if difference.layer_counts else rounded_number(float(difference.effect[layer]), 6),
        shared=difference.shared,
        images=difference.images,
        baseline=None if recorded is None else cast("Columns", columns(recorded)),
        by_layer=None if difference.layer_counts else _difference_columns(difference),
    )


def _difference_columns(difference: Difference) -> DifferenceColumns:
    layers = range(len(difference.measured))
    change = difference.measured - difference.recorded
    allowed = np.where(np.isnan(change), np.nan, difference.allowed)
    return DifferenceColumns(
        layer=list(layers),
        difference=[_at(change, layer) for layer in layers],
        allowed=[_at(allowed, layer) for layer in layers],
    )


def _at(values: Array, layer: int) -> float | None:
    return rounded_number(float(values[layer]), DIGITS)
