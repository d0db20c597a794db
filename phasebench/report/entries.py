"""Entries: what the cases of a run hand to the report, as typed plain data.

An entry travels with pytest's report of its case, also from a worker of pytest-xdist to the controller, as
a dictionary that ``as_plain`` makes and ``from_plain`` reads. The results file, its schema and its page in
the documentation are made from the same classes. Arrays over layers are lists by layer 0..L.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from typing_extensions import NotRequired, TypedDict

Number = float | None
"""None where there is no value: JSON has neither NaN nor infinity."""
Rows = list[list[Number]]


class Columns(TypedDict):
    """A curve by columns: layer, mean over images, standard error over items, images with a value."""

    layer: list[int]
    mean: list[Number]
    se: list[Number]
    n: list[int]


Timing = TypedDict("Timing", {"pass": Number, "plain": Number, "ratio": Number, "total": Number})
"""Seconds: of the instrumented pass and of the plain one per image, their ratio, all; None from the store."""


class Layout(TypedDict):
    """Positions of the prompt: its length, the image tokens' runs ``[start, end)``, how many are text."""

    length: int
    visual: list[list[int]]
    text: int


class Picture(TypedDict):
    """An example image: its file, its captions, and the caption words that the lens may hit."""

    path: str
    captions: list[str]
    references: list[str]


class Patches(TypedDict):
    """The grid in which the image tokens lie over a picture, and how the picture fits into it."""

    rows: int
    columns: int
    fit: Literal["cover", "fill"]


class SelfTestSummary(TypedDict):
    """What the self-test measured; ``unmeasured`` is what failed it, and why."""

    bit_equal: bool
    attention_rows: int
    layers: int
    completeness: Number
    gates: Number
    lens_agreement: Number
    unmeasured: dict[str, str]


class Skip(TypedDict):
    """An image that was set aside."""

    id: str
    path: str
    reason: str


class Provenance(TypedDict):
    """What was measured, on what, with what."""

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
    """A finding's number in a control; ``differs`` is None without an interval of the difference."""

    control: str
    value: Number
    difference: Number
    low: Number
    high: Number
    differs: bool | None
    note: str


@dataclass(kw_only=True)
class Entry:
    """One thing that a case reports of a model and dataset.

    Attributes:
        run: ``<model>/<dataset>``.
        passed: whether it is as it should be; None where the outcome of the whole case counts.
    """

    kind: ClassVar[str]
    judged: ClassVar[bool] = False
    """Whether the case compared a result with a reference."""

    run: str = ""
    passed: bool | None = None

    @property
    def failed(self) -> bool:
        """Whether it is not as it should be."""
        return self.passed is False


@dataclass(kw_only=True)
class MeasurementEntry(Entry):
    """A model measured on a dataset.

    Attributes:
        curves: curve -> `{layer, mean, se, n}`, lists by layer 0..L; null where a curve has no value.
        controls: `blank`, and with `--controls` `projector` and `text` -> curves in the same form.
        timing: seconds of the images that this run measured: `pass` and `plain` per image, `total`; `ratio`
            of the two on the same images; null where all came from the store.
        heatmap: mean attention norm, layers 1..L by positions, to six digits; null where layouts differ.
        heatmaps: the same for each of the first two images, by id (as in Fig. 4).
        words: what the lens decodes from those two: id -> layers 0..L -> one token a visual position.
        pictures: `{path, captions, references}` of those two; the references are the caption words that
            count.
        patches: `{rows, columns, fit}` of the grid in which the image tokens lie over a picture; null if
            none.
        layout: `{length, visual: [[start, end]], text}` of the prompt in positions; a list where images
            differ.
        selftest: what the self-test measured; `unmeasured` is what failed it, and why.
        broken: images with NaN or infinite states -> the first layer and module that have them.
        provenance: checkpoint and data digests, prompt, seed, dtype, device, versions.
        images: the ids of the images measured, in order.
        stored: how many of them an earlier run had measured.
        notes: what happened on the way that changes no number: memory ran out, the store could not be
            written.
        skipped: the images set aside: `{id, path, reason}`.
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
        id: the finding's.
        claim: what it says, in a sentence.
        source: where the paper says it.
        order: its place in tables.
        verdict: holds, does not hold or undecided.
        value: the number that decided.
        low: the lower end of its interval.
        high: the upper end of its interval.
        margin: how far the deciding end of the interval lies beyond its bound, in standard errors; negative
            where undecided.
        images_needed: how many images would decide an undecided verdict; null where no number would.
        detail: the number in words.
        controls: the finding's number in each control, the `difference` with its interval, whether it
            `differs`.
        recorded: the baseline's verdict; null without one, empty where it cannot be read.
        data: what the finding adds, such as `phases` of `four_phases`: `{pattern, layers, low, high}`.
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
    """A curve beside its baseline, at the layer that differs most.

    Attributes:
        curve: its name.
        layer: the one that differs most; null where nothing could be compared.
        excess: the difference divided by what is allowed: above 1 is drift; null where it has no measure.
        recorded: the baseline's mean there.
        measured: the measured mean there.
        low: the lower end of the difference's interval.
        high: the upper end of it.
        effect: the difference in standard deviations over images.
        shared: how many images both have; 0: other images were compared.
        images: how many images the side with more has.
        lines: the difference in words, the worst layers first.
        updated: whether the baseline was written anew.
        cause: the likely cause of a drift; empty where it is not clear.
        left: why an update left the baseline as it is; empty where it did not.
        baseline: the recorded curve by columns; null without one.
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

    @property
    def badness(self) -> float:
        """What drift is sorted by; what has no measure (another number of layers, no file) comes first."""
        return float("inf") if self.excess is None else self.excess


@dataclass(kw_only=True)
class TimingEntry(Entry):
    """Recorded durations that were handed to pytest-benchmark.

    Attributes:
        route: ``pass`` or ``plain``.
        seconds: mean per image.
        stored: that of the stored benchmark; None without one.
    """

    kind: ClassVar[str] = "timing"

    route: str
    seconds: float
    stored: Number


@dataclass(kw_only=True)
class OwnCaseEntry(Entry):
    """A case of the user's own.

    Attributes:
        case: its name.
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
"""The word for each kind of entry in its plain form -> its class."""
UNREPORTED = ("passed", "order")
"""Fields that no file shows."""


def as_plain(entry: Entry) -> dict[str, Any]:
    """The entry as a dictionary that any process can send."""
    return {"kind": entry.kind, **vars(entry)}


def from_plain(plain: Mapping[str, Any]) -> Entry:
    """The entry again."""
    values = dict(plain)
    return KINDS[values.pop("kind")](**values)


def junit_properties(entry: Entry) -> list[tuple[str, str | int | float]]:
    """The entry's single values as properties of its case: ``phasebench.<field>``; a finding's data too."""
    if not (entry.judged or isinstance(entry, TimingEntry)):
        return []
    values = {name: value for name, value in vars(entry).items() if name not in UNREPORTED}
    values |= values.pop("data", {})
    return [(f"phasebench.{name}", v) for name, v in values.items() if isinstance(v, str | int | float)]


def reported(entry: Entry, *hidden: str) -> dict[str, Any]:
    """The entry's fields as the results file has them, without those that are ``hidden``."""
    names = (one.name for one in fields(entry))
    values = {name: getattr(entry, name) for name in names if name not in (*UNREPORTED, "run", *hidden)}
    data: dict[str, Any] = values.pop("data", {})
    return values | data
