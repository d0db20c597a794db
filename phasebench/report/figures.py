"""The paper's figures of one model and dataset, and of several models on one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from phasebench.catalog import FIRST_POSITIONS
from phasebench.judge.findings.phases import FOUR, WORDS
from phasebench.report.figure_model import BASELINE, CONTROL, NO_SINK, Boundary, Figure, Heat, Line, Value
from phasebench.report.results import Entry, Results

NAMES = {
    "inter": "image to text",
    "intra_visual": "within the image",
    "intra_text": "within the text",
    "share_first5": "first 5 positions",
    "share_first5_visual": "first 5 image tokens",
    "share_visual": "image tokens",
    "share_text": "text",
    "recall": "own captions",
    "recall_other": "another image's captions",
    "lift": "lift: own minus other",
}
ROMAN = ("I", "II", "III", "IV")
BANDS = "Bands: one standard error of the mean over images."
DASHED = "Dashed: the baseline."
COMPARED = {
    "inter": ("Figure 1", "Similarity between image and text", "mean cosine"),
    "intra_visual": ("Figure 3", "Similarity within the image", "mean cosine"),
    "intra_text": ("Figure 3", "Similarity within the text", "mean cosine"),
    "share_first5": ("Figure 4", "Attention on the first 5 positions", "share of the norm"),
    "total": ("Figure 4", "Attention of the last text token in all", "sum of norms"),
    "recall": ("Figure 5", "Caption words that the image tokens decode to", "recall"),
}
"""Curves that are set side by side where several models were measured on the same images."""
CONTROLS = (6, 1, 4, 7)
"""Colours of the controls."""


def of_run(results: Results, run_id: str) -> Iterator[Figure]:
    """Figures 1, 3, 4 and 5 of one model on one dataset; those of which nothing was measured are left out."""
    entry = results.measurement(run_id)
    if entry is None:
        return
    recorded = {drift["curve"]: drift.get("baseline") for drift in results.of_kind(run_id, "drift")}
    for figure in (
        _phases(entry, recorded, results.of_kind(run_id, "finding")),
        _modalities(entry, recorded),
        *_heatmaps(entry),
        _positions(entry),
        _shares(entry, recorded),
        _recall(entry, recorded, results.of_kind(run_id, "finding")),
    ):
        if figure is not None and (figure.heat or any(line.known for line in figure.lines)):
            yield figure


def across(results: Results) -> Iterator[tuple[str, list[Figure]]]:
    """Datasets that several models were measured on, with a figure for each of ``COMPARED``."""
    datasets: dict[str, list[str]] = {}
    for run_id in results.run_ids:
        if results.measurement(run_id) is not None:
            datasets.setdefault(run_id.partition("/")[2], []).append(run_id)
    for dataset, run_ids in datasets.items():
        if len(run_ids) > 1:
            figures = (_compared(results, run_ids, curve) for curve in COMPARED)
            yield dataset, [figure for figure in figures if any(line.known for line in figure.lines)]


def _compared(results: Results, run_ids: Sequence[str], curve: str) -> Figure:
    number, title, label = COMPARED[curve]
    lines = []
    for colour, run_id in enumerate(run_ids):
        table = (results.measurement(run_id) or {})["curves"][curve]
        depths = [layer / (table["layer"][-1] or 1) for layer in table["layer"]]
        lines.append(Line(run_id.partition("/")[0], depths, table["mean"], table["se"], colour))
    return Figure(f"models-{curve}", f"{number}. {title}, by model", BANDS, label, None, lines)


def _lines(
    entry: Entry, recorded: Entry, names: Sequence[str], colours: Sequence[int] = range(9)
) -> list[Line]:
    """Measured curves, each with its baseline dashed beside it."""
    lines = []
    for name, colour in zip(names, colours, strict=False):
        table, label = entry["curves"][name], NAMES[name]
        lines.append(Line(label, table["layer"], table["mean"], table["se"], colour))
        if baseline := recorded.get(name):
            x = _stretched(baseline["layer"], table["layer"][-1])
            lines.append(Line(f"{label}, baseline", x, baseline["mean"], (), colour, BASELINE))
    return lines


def _stretched(layers: Sequence[int], last: int) -> list[float]:
    """Layers of a model with another number of them, laid over this one's by depth."""
    return [layer if layers[-1] == last else layer * last / (layers[-1] or 1) for layer in layers]


def _beside(entry: Entry, control: str, curve: str, colour: int) -> list[Line]:
    """A control's curve, dotted."""
    table = entry["controls"].get(control, {}).get(curve)
    if table is None:
        return []
    told = "blank image" if control == "blank" else f"control {control}"
    return [Line(f"{NAMES[curve]}, {told}", table["layer"], table["mean"], (), colour, CONTROL)]


def _without_sinks(entry: Entry, curve: str, colour: int, *, hidden: bool = False) -> Line:
    table = entry["curves"][f"{curve}_nosink"]
    return Line(
        f"{NAMES[curve]}, without sinks", table["layer"], table["mean"], (), colour, NO_SINK, hidden=hidden
    )


def cut(findings: Sequence[Entry]) -> tuple[list[str], list[Boundary]]:
    """Names of the phases and what lies between them; as ``four_phases`` found them."""
    found = next((entry["phases"] for entry in findings if "phases" in entry), None)
    if found is None:
        return [], []
    names = found["pattern"]
    if names == [WORDS[sign] for sign in FOUR]:
        names = [f"{number} {word}" for number, word in zip(ROMAN, names, strict=True)]
    ends = zip(found["layers"], found["low"], found["high"], strict=True)
    return names, [Boundary(*end) for end in ends]


def _intervals_in_words(boundaries: Sequence[Boundary]) -> str:
    if not boundaries:
        return ""
    layers = ", ".join(map(str, boundaries))
    return f" Phases meet at layers {layers} (with 95 % intervals, shaded)."


def _phases(entry: Entry, recorded: Entry, findings: Sequence[Entry]) -> Figure:
    names, boundaries = cut(findings)
    lines = [
        *_lines(entry, recorded, ["inter"]),
        _without_sinks(entry, "inter", 3),
        *(
            line
            for colour, control in zip(CONTROLS, entry["controls"], strict=False)
            for line in _beside(entry, control, "inter", colour)
        ),
    ]
    caption = f"{BANDS} {DASHED} Dotted: controls.{_intervals_in_words(boundaries)}"
    return Figure(
        "figure-1", "Figure 1. Similarity between image and text", caption, "mean cosine",
        _last(entry), lines, None, names, boundaries,
    )  # fmt: skip


def _modalities(entry: Entry, recorded: Entry) -> Figure:
    names = ("inter", "intra_visual", "intra_text")
    lines = _lines(entry, recorded, names)
    lines += [_without_sinks(entry, name, colour, hidden=True) for colour, name in enumerate(names)]
    return Figure(
        "figure-3", "Figure 3. Similarity within and between modalities",
        f"{BANDS} {DASHED} Without sinks: click in the legend, or see the numbers.", "mean cosine",
        _last(entry), lines,
    )  # fmt: skip


def _heatmaps(entry: Entry) -> Iterator[Figure]:
    shown = {"": entry["heatmap"], **entry["heatmaps"]}
    for image, rows in shown.items():
        if rows and any(value for row in rows for value in row):
            of = f"image {image}" if image else f"mean of {len(entry['images'])} images"
            number = list(shown).index(image)
            yield Figure(
                f"figure-4-heatmap{f'-{number}' if number else ''}",
                f"Figure 4, above. Attention of the last text token, {of}",
                "Norm of what each position contributes, on a logarithmic scale.",
                "layer", _last(entry), heat=Heat(rows, _visual(entry)),
            )  # fmt: skip


def _visual(entry: Entry) -> list[list[int]]:
    layout = entry["layout"]
    return list(layout["visual"]) if isinstance(layout, dict) else []


def _positions(entry: Entry) -> Figure | None:
    """Figure 4, below: norm-based attention by layer to single tokens, and to the rest of each kind."""
    rows = entry["heatmap"]
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
        "figure-4-lines", "Figure 4, below. Attention of the last text token to single tokens",
        "Norms, mean over images; the first five positions and the mean of all others.",
        "norm", _last(entry), lines, log=True,
    )  # fmt: skip


def _mean(values: Sequence[Value]) -> Value:
    """Of what is known; nothing where that is 0, which a logarithm does not have."""
    known = [value for value in values if value is not None]
    return (fmean(known) or None) if known else None


def _shares(entry: Entry, recorded: Entry) -> Figure:
    names = ("share_first5", "share_first5_visual", "share_visual", "share_text")
    return Figure(
        "figure-4-shares", "Where the attention of the last text token goes", f"{BANDS} {DASHED}",
        "share of the norm", _last(entry), _lines(entry, recorded, names),
    )  # fmt: skip


def _recall(entry: Entry, recorded: Entry, findings: Sequence[Entry]) -> Figure:
    names, boundaries = cut(findings)
    lines = [
        *_lines(entry, recorded, ("recall", "recall_other", "lift"), (2, 6, 1)),
        *_beside(entry, "blank", "recall", 6),
    ]
    caption = f"{BANDS} {DASHED} Without lift, recall says nothing about the image."
    return Figure(
        "figure-5", "Figure 5. Caption words that the image tokens decode to", caption, "recall",
        _last(entry), lines, None, names, boundaries,
    )  # fmt: skip


def _last(entry: Entry) -> int:
    return int(entry["curves"]["inter"]["layer"][-1])
