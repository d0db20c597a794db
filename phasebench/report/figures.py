"""The figures of one model and dataset, like the paper's and of differences; and those of several models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from phasebench.catalog import BY_NAME, CATALOG, FIRST_POSITIONS, ModelsFigure
from phasebench.judge.findings.phases import FOUR, WORDS
from phasebench.report.entries import (
    Columns,
    DifferenceColumns,
    DriftEntry,
    FindingEntry,
    MeasurementEntry,
)
from phasebench.report.figure_model import BASELINE, CONTROL, NO_SINK, Boundary, Figure, Heat, Line, Value
from phasebench.report.results import Results

ROMAN = ("I", "II", "III", "IV")
BANDS = "Bands: one standard error of the mean over images."
DASHED = "Dashed: the baseline."
TOLERANCE = "Band: the difference that is allowed. A curve may also drift because single images differ."
CONTROLS = (6, 1, 4, 7)
"""Numbers of the controls' colours in the palette."""


def run_figures(results: Results, run_id: str) -> Iterator[Figure]:
    """Figures 1, 3, 4 and 5 of the paper for one model and dataset, without those that have no value."""
    entry = results.measurement(run_id)
    if entry is None:
        return
    baselines = {drift.curve: drift.baseline for drift in results.drift(run_id) if drift.baseline}
    names, boundaries = phases_and_boundaries(results.findings(run_id))
    for figure in (
        _phases(entry, baselines, names, boundaries),
        _modalities(entry, baselines),
        *_heatmaps(entry),
        _positions(entry),
        _shares(entry, baselines),
        _recall(entry, baselines, names, boundaries),
    ):
        if figure is not None and (figure.heat or any(line.defined_points for line in figure.lines)):
            yield figure


def differences(results: Results, run_id: str) -> Iterator[tuple[DriftEntry, Figure]]:
    """Each curve with a baseline, those with drift first, and a figure of its difference by layer."""
    for entry in results.drift(run_id):
        if entry.by_layer is not None:
            yield entry, _difference(entry, entry.by_layer)


def _difference(entry: DriftEntry, columns: DifferenceColumns) -> Figure:
    """Measured minus recorded mean by layer, and the allowed difference as a band around 0."""
    layers, curve = columns["layer"], BY_NAME[entry.curve]
    zeros = [0.0] * len(layers)
    return Figure(
        f"difference-{entry.curve}", f"{entry.curve}: measured minus baseline", TOLERANCE,
        curve.unit.partition(",")[0], layers[-1],
        [
            Line("the baseline and the allowed difference", layers, zeros, columns["allowed"], 6, BASELINE),
            Line("measured minus baseline", layers, columns["difference"], (), 7 if entry.failed else 0),
        ],
    )  # fmt: skip


def model_comparisons(results: Results) -> Iterator[tuple[str, list[Figure]]]:
    """Each dataset on which several models were measured, with a figure for each curve that is compared."""
    datasets: dict[str, dict[str, MeasurementEntry]] = {}
    for run_id, entry in results.measurements().items():
        model, _, dataset = run_id.partition("/")
        datasets.setdefault(dataset, {})[model] = entry
    for dataset, models in datasets.items():
        if len(models) > 1:
            figures = (
                _models_figure(models, curve.name, curve.models_figure)
                for curve in CATALOG
                if curve.models_figure
            )
            yield dataset, [figure for figure in figures if any(line.defined_points for line in figure.lines)]


def _models_figure(models: Mapping[str, MeasurementEntry], curve: str, about: ModelsFigure) -> Figure:
    """One curve of several models over relative depth."""
    lines = []
    for colour, (model, entry) in enumerate(models.items()):
        table = entry.curves[curve]
        depths = [layer / (table["layer"][-1] or 1) for layer in table["layer"]]
        lines.append(Line(model, depths, table["mean"], table["se"], colour))
    title = f"{about.title}, by model"
    return Figure(f"models-{curve}", title, BANDS, about.axis, None, lines, paper=about.number)


def _lines(
    entry: MeasurementEntry, baselines: Mapping[str, Columns], figure: str, colours: Sequence[int] = range(9)
) -> list[Line]:
    """The measured curves of a figure, each followed by its baseline as a dashed line."""
    lines = []
    curves = (curve for curve in CATALOG if figure in curve.figures)
    for curve, colour in zip(curves, colours, strict=False):
        table = entry.curves[curve.name]
        lines.append(Line(curve.label, table["layer"], table["mean"], table["se"], colour))
        if baseline := baselines.get(curve.name):
            x = _stretched(baseline["layer"], table["layer"][-1])
            lines.append(Line(f"{curve.label}, baseline", x, baseline["mean"], (), colour, BASELINE))
    return lines


def _stretched(layers: Sequence[int], last: int) -> list[float]:
    """Layers of a baseline, scaled to ``last`` layers if its model has another number of layers."""
    return [layer if layers[-1] == last else layer * last / (layers[-1] or 1) for layer in layers]


def _control_lines(entry: MeasurementEntry, control: str, curve: str, colour: int) -> list[Line]:
    """A control's curve as a dotted line; no line if the control does not have the curve."""
    table = entry.controls.get(control, {}).get(curve)
    if table is None:
        return []
    name = "blank image" if control == "blank" else f"control {control}"
    label = f"{BY_NAME[curve].label}, {name}"
    return [Line(label, table["layer"], table["mean"], (), colour, CONTROL)]


def _without_sinks(entry: MeasurementEntry, curve: str, colour: int, *, hidden: bool = False) -> Line:
    table, label = entry.curves[f"{curve}_nosink"], f"{BY_NAME[curve].label}, without sinks"
    return Line(label, table["layer"], table["mean"], (), colour, NO_SINK, hidden=hidden)


def phases_and_boundaries(findings: Sequence[FindingEntry]) -> tuple[list[str], list[Boundary]]:
    """The names of the phases in the entry of ``four_phases``, and their boundaries; both may be empty."""
    phases = next((entry.data["phases"] for entry in findings if "phases" in entry.data), None)
    if phases is None:
        return [], []
    names = phases["pattern"]
    if names == [WORDS[sign] for sign in FOUR]:
        names = [f"{number} {word}" for number, word in zip(ROMAN, names, strict=True)]
    ends = zip(phases["layers"], phases["low"], phases["high"], strict=True)
    return names, [Boundary(*end) for end in ends]


def _intervals_in_words(boundaries: Sequence[Boundary]) -> str:
    if not boundaries:
        return ""
    layers = ", ".join(map(str, boundaries))
    return f" Phases meet at layers {layers} (with 95 % intervals, shaded)."


def _phases(
    entry: MeasurementEntry,
    baselines: Mapping[str, Columns],
    names: Sequence[str],
    boundaries: Sequence[Boundary],
) -> Figure:
    lines = [
        *_lines(entry, baselines, "figure-1"),
        _without_sinks(entry, "inter", 3),
        *(
            line
            for colour, control in zip(CONTROLS, entry.controls, strict=False)
            for line in _control_lines(entry, control, "inter", colour)
        ),
    ]
    caption = f"{BANDS} {DASHED} Dotted: controls.{_intervals_in_words(boundaries)}"
    return Figure(
        "figure-1", "Similarity between image and text", caption, "mean cosine",
        last_layer(entry), lines, None, names, boundaries, paper="Figure 1",
    )  # fmt: skip


def _modalities(entry: MeasurementEntry, baselines: Mapping[str, Columns]) -> Figure:
    drawn = (curve.name for curve in CATALOG if "figure-3" in curve.figures)
    lines = [
        *_lines(entry, baselines, "figure-3"),
        *(_without_sinks(entry, name, colour, hidden=True) for colour, name in enumerate(drawn)),
    ]
    return Figure(
        "figure-3", "Similarity within and between modalities",
        f"{BANDS} {DASHED} Without sinks: click in the legend, or see the numbers.", "mean cosine",
        last_layer(entry), lines, paper="Figure 3",
    )  # fmt: skip


def _heatmaps(entry: MeasurementEntry) -> Iterator[Figure]:
    heatmaps = {"": entry.heatmap, **entry.heatmaps}
    for image, rows in heatmaps.items():
        if rows and any(value for row in rows for value in row):
            subject = f"image {image}" if image else f"mean of {len(entry.images)} images"
            number = list(heatmaps).index(image)
            yield Figure(
                f"figure-4-heatmap{f'-{number}' if number else ''}",
                f"Attention of the last text token, {subject}",
                "Norm of what each position contributes, on a logarithmic scale.",
                "layer", last_layer(entry), heat=Heat(rows, _visual(entry)), paper="Figure 4, above",
            )  # fmt: skip


def _visual(entry: MeasurementEntry) -> list[list[int]]:
    """The spans of the image tokens; empty if the images have different layouts."""
    return [] if isinstance(entry.layout, list) else entry.layout["visual"]


def _positions(entry: MeasurementEntry) -> Figure | None:
    """Figure 4, below: norm-based attention by layer to single tokens, and its mean over the others."""
    rows = entry.heatmap
    if not rows:
        return None
    visual = {position for start, end in _visual(entry) for position in range(start, end)}
    first = range(min(FIRST_POSITIONS, len(rows[0])))
    groups = {f"position {j} ({'image' if j in visual else 'text'})": [j] for j in first}
    rest = range(FIRST_POSITIONS, len(rows[0]))
    groups["other image tokens, mean"] = [j for j in rest if j in visual]
    groups["other text, mean"] = [j for j in rest if j not in visual]
    layers = list(range(1, len(rows) + 1))
    lines = [
        Line(name, layers, [_mean([row[j] for j in positions]) for row in rows], (), colour)
        for colour, (name, positions) in enumerate(groups.items())
    ]
    return Figure(
        "figure-4-lines", "Attention of the last text token to single tokens",
        "Norms, mean over images; the first five positions and the mean of all others.",
        "norm", last_layer(entry), lines, log=True, paper="Figure 4, below",
    )  # fmt: skip


def _mean(values: Sequence[Value]) -> Value:
    """The mean of the defined values; None if it is 0, which has no logarithm."""
    known = [value for value in values if value is not None]
    return (fmean(known) or None) if known else None


def _shares(entry: MeasurementEntry, baselines: Mapping[str, Columns]) -> Figure:
    return Figure(
        "figure-4-shares", "Where the attention of the last text token goes", f"{BANDS} {DASHED}",
        "share of the norm", last_layer(entry), _lines(entry, baselines, "figure-4-shares"),
    )  # fmt: skip


def _recall(
    entry: MeasurementEntry,
    baselines: Mapping[str, Columns],
    names: Sequence[str],
    boundaries: Sequence[Boundary],
) -> Figure:
    lines = [
        *_lines(entry, baselines, "figure-5", (2, 6, 1)),
        *_control_lines(entry, "blank", "recall", 6),
    ]
    caption = f"{BANDS} {DASHED} Without lift, recall says nothing about the image."
    return Figure(
        "figure-5", "Caption words that the image tokens decode to", caption, "recall",
        last_layer(entry), lines, None, names, boundaries, paper="Figure 5",
    )  # fmt: skip


def last_layer(entry: MeasurementEntry) -> int:
    """L: the number of the last layer."""
    return next(iter(entry.curves.values()))["layer"][-1]
