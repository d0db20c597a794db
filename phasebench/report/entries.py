"""Entries: the results that the cases of a run hand to the report, as typed plain data.

An entry is attached to pytest's report of its case, and so also goes from a worker of pytest-xdist to the
controller. It is sent as a dictionary that ``as_plain`` makes and ``from_plain`` reads. The results file, its
schema and its page in the documentation are made from the same classes: the attributes' descriptions here
are the text of that page. Arrays over layers are lists by layer 0..L.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from typing_extensions import NotRequired, TypedDict

Number = float | None
"""A number, or None without a value: JSON has neither NaN nor infinity."""
Rows = list[list[Number]]
"""A heatmap: layers by positions."""


class Columns(TypedDict):
    """A curve as columns: layer, mean over images, standard error over items, images with a value."""

    layer: list[int]
    mean: list[Number]
    se: list[Number]
    n: list[int]


class DifferenceColumns(TypedDict):
    """A curve's difference from its baseline as columns: measured minus recorded mean, allowed difference."""

    layer: list[int]
    difference: list[Number]
    allowed: list[Number]


Timing = TypedDict("Timing", {"pass": Number, "plain": Number, "ratio": Number, "total": Number})
"""Seconds per image of the instrumented pass and of the plain pass, their ratio, and the total seconds; None
if all images came from the store."""


class Layout(TypedDict):
    """A prompt's length, the spans ``[start, end)`` of its image tokens, and its number of text positions."""

    length: int
    visual: list[list[int]]
    text: int


class Picture(TypedDict):
    """An example image: its file, its captions, and the caption words that the lens may hit."""

    path: str
    captions: list[str]
    references: list[str]


class Patches(TypedDict):
    """The grid of image tokens over a picture, and how the picture is made square (crop or stretch)."""

    rows: int
    columns: int
    fit: Literal["cover", "fill"]


class SelfTestSummary(TypedDict):
    """The numbers of the self-test; ``unmeasured``: each part that failed -> the reason."""

    bit_equal: bool
    attention_rows: int
    layers: int
    completeness: Number
    gates: Number
    lens_agreement: Number
    unmeasured: dict[str, str]


class Skip(TypedDict):
    """An image that was not measured, and the reason in a few words."""

    id: str
    path: str
    reason: str


class Provenance(TypedDict):
    """The model, data, prompt, settings, device and versions of a measurement."""

    model: str
    architecture: str
    checkpoint: str
    source: NotRequired[str]
    dataset: str
    data: str
    images: int
    prompt: str
    processing: NotRequired[str]
    layout: Layout | list[Layout]
    seed: int
    lens_norm: bool
    batch_size: int
    device: str
    dtype: str
    torch: str
    transformers: str
    phasebench: str
    unmeasured: NotRequired[dict[str, str]]


class ControlRow(TypedDict):
    """A finding's number in a control, and its difference from the measured number with an interval.

    ``differs`` is None if the difference has no interval.
    """

    control: str
    value: Number
    difference: Number
    low: Number
    high: Number
    differs: bool | None
    note: str


@dataclass(kw_only=True)
class Entry:
    """One result that a case reports for a model and dataset.

    Attributes:
        run: ``<model>/<dataset>``.
        passed: whether the result is as expected; None if it has the outcome of its case.
    """

    kind: ClassVar[str]
    judged: ClassVar[bool] = False
    """Whether the case compares a result with a reference."""

    run: str = ""
    passed: bool | None = None

    @property
    def failed(self) -> bool:
        """Whether the result is not as expected."""
        return self.passed is False


@dataclass(kw_only=True)
class MeasurementEntry(Entry):
    """The measurement of a model on a dataset.

    Attributes:
        curves: curve -> `{layer, mean, se, n}`, each a list by layer 0..L; null where a curve has no value.
        controls: name of a control -> curves in the same form. The names are `blank` and, with `--controls`,
            `projector` and `text`.
        timing: seconds of the images that this run measured: `pass` and `plain` are means per image, `ratio`
            is the ratio of the two on the same images, `total` is the sum over all passes; null if all
            images came from the store.
        heatmap: norm-based attention, mean over images: layers 1..L by positions, to six digits; null if the
            images have different layouts.
        heatmaps: the same for each of the first two images, by id (as in Fig. 4).
        words: the tokens that the lens decodes from these two images: id -> layers 0..L -> one token for
            each visual position.
        pictures: `{path, captions, references}` of these two images, by id; `references` are the caption
            words that recall counts.
        patches: `{rows, columns, fit}` of the grid of image tokens over a picture; null if there is no such
            grid.
        layout: `{length, visual: [[start, end]], text}` of the prompt, in positions; a list of these if the
            images have different layouts.
        selftest: the numbers of the self-test; its `unmeasured` gives the reason for each part that failed.
        broken: id of an image with NaN or infinite states -> the first layer and module that have them.
        provenance: checkpoint and data digests, prompt, seed, dtype, device, versions.
        images: the ids of the measured images, in order.
        stored: the number of these images that an earlier run had measured.
        notes: events of the run that change no number, for example that memory ran out or that the store
            could not be written.
        skipped: the images that were not measured: `{id, path, reason}`.
    """

    kind: ClassVar[str] = "measurement"

    curves: dict[str, Columns]
    controls: dict[str, dict[str, Columns]]
    timing: Timing
    heatmap: Rows | None
    heatmaps: dict[str, Rows]
    words: dict[str, list[list[str]]]
    pictures: dict[str, Picture]
    patches: Patches | None
    layout: Layout | list[Layout]
    selftest: SelfTestSummary
    broken: dict[str, str]
    provenance: Provenance
    images: list[str]
    stored: int
    notes: list[str]
    skipped: list[Skip]


@dataclass(kw_only=True)
class FindingEntry(Entry):
    """A finding's verdict.

    Attributes:
        id: the finding's id.
        claim: the claim in one sentence.
        source: the source of the claim, for the paper's findings its figure and section.
        order: its position in tables.
        verdict: `holds`, `does not hold` or `undecided`.
        value: the number that decided.
        low: the lower end of its interval.
        high: the upper end of its interval.
        margin: the distance from the deciding end of the interval to its bound, in standard errors; negative
            if the verdict is undecided.
        images_needed: the number of images that would decide an undecided verdict; null if no number would.
        detail: a description of the number: its condition and layer.
        controls: for each control the finding's number (`value`), the `difference` (measured minus control)
            with its interval, and whether it `differs`.
        recorded: the baseline's verdict; null if there is none, empty if it cannot be read.
        data: the finding's own data, such as `phases` of `four_phases`: `{pattern, layers, low, high}`.
    """

    kind: ClassVar[str] = "finding"
    judged: ClassVar[bool] = True

    id: str
    claim: str = ""
    source: str = ""
    order: int = 0
    verdict: Literal["holds", "does not hold", "undecided"]
    value: Number
    low: Number
    high: Number
    margin: Number
    images_needed: int | None
    detail: str
    controls: list[ControlRow]
    recorded: str | None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class DriftEntry(Entry):
    """The comparison of a curve with its baseline, at the layer that differs most (the worst layer).

    Attributes:
        curve: its name.
        layer: the worst layer; null if nothing could be compared.
        excess: the difference divided by the allowed difference: above 1 is drift; null if no difference can
            be computed.
        recorded: the baseline's mean at that layer.
        measured: the measured mean at that layer.
        low: the lower end of the interval of the difference.
        high: the upper end of the interval of the difference.
        effect: the difference in standard deviations over images.
        shared: the number of images that both records have; 0 if different images were compared.
        images: the number of images in the larger of the two records.
        lines: the difference in words, the worst layers first.
        updated: whether this run wrote the baseline.
        cause: the likely cause of a drift; empty if it is not clear.
        left: the reason why an update did not change the baseline.
        baseline: the recorded curve, in the form of `curves`.
        by_layer: `{layer, difference, allowed}`, each a list by layer 0..L: the measured minus the recorded
            mean over the images compared, and the allowed size of this difference; null where the curve has
            no value. A curve may also drift because single images differ; `lines` then says so.
    """

    kind: ClassVar[str] = "drift"
    judged: ClassVar[bool] = True

    curve: str
    layer: int | None = None
    excess: Number = None
    recorded: Number = None
    measured: Number = None
    low: Number = None
    high: Number = None
    effect: Number = None
    shared: int = 0
    images: int = 0
    lines: list[str] = field(default_factory=list)
    updated: bool = False
    cause: str = ""
    left: str = ""
    baseline: Columns | None = None
    by_layer: DifferenceColumns | None = None

    @property
    def badness(self) -> float:
        """The value that drift is sorted by; infinite, and so first, if no difference can be computed."""
        return float("inf") if self.excess is None else self.excess


@dataclass(kw_only=True)
class TimingEntry(Entry):
    """Recorded durations that were handed to pytest-benchmark.

    Attributes:
        route: ``pass`` (instrumented) or ``plain``.
        seconds: mean seconds per image.
        stored: mean seconds per image in the stored benchmark; None if there is none.
    """

    kind: ClassVar[str] = "timing"

    route: str
    seconds: float
    stored: Number


@dataclass(kw_only=True)
class OwnCaseEntry(Entry):
    """A case in the user's own test files that uses a measurement.

    Attributes:
        case: the case's name.
    """

    kind: ClassVar[str] = "own"
    judged: ClassVar[bool] = True

    case: str


@dataclass(kw_only=True)
class UncomparedEntry(Entry):
    """A curve or verdict that could not be compared."""

    kind: ClassVar[str] = "uncompared"


KINDS: dict[str, type[Entry]] = {
    cls.kind: cls
    for cls in (MeasurementEntry, FindingEntry, DriftEntry, TimingEntry, OwnCaseEntry, UncomparedEntry)
}
"""Kind in an entry's plain form -> class of the entry."""
UNREPORTED = ("passed", "order")
"""Fields that are in no output file."""


def as_plain(entry: Entry) -> dict[str, Any]:
    """The entry as a dictionary of plain data that can be sent between processes."""
    return {"kind": entry.kind, **vars(entry)}


def from_plain(plain: Mapping[str, Any]) -> Entry:
    """The entry that ``as_plain`` turned into a dictionary."""
    values = dict(plain)
    return KINDS[values.pop("kind")](**values)


def junit_properties(entry: Entry) -> list[tuple[str, str | int | float]]:
    """The entry's texts and numbers as JUnit properties ``phasebench.<field>``, a finding's data included.

    Empty for entries that are neither judged nor timings.
    """
    if not (entry.judged or isinstance(entry, TimingEntry)):
        return []
    values = {name: value for name, value in vars(entry).items() if name not in UNREPORTED}
    values |= values.pop("data", {})
    return [(f"phasebench.{name}", v) for name, v in values.items() if isinstance(v, str | int | float)]


def reported(entry: Entry, *hidden: str) -> dict[str, Any]:
    """The entry's fields in the form of the results file, without the fields named in ``hidden``."""
    names = (entry_field.name for entry_field in fields(entry))
    values = {name: getattr(entry, name) for name in names if name not in (*UNREPORTED, "run", *hidden)}
    data: dict[str, Any] = values.pop("data", {})
    return values | data
