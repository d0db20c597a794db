"""Entries: the results that the cases of a run hand to the report, as typed plain data.

An entry is attached to pytest's report of its case, and so also goes from a worker of pytest-xdist to the
controller, as plain data (``entry_forms``). The results file, its schema and its page in the documentation
are made from the same classes: the attributes' descriptions here are the text of that page. Arrays over
layers are lists by layer 0..L.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    tokenizers: NotRequired[dict[str, str]]
    layout: Layout | list[Layout]
    seed: int
    lens_norm: bool
    last_layer: NotRequired[str]
    batch_size: int
    device: str
    dtype: str
    quantization: NotRequired[str]
    torch: str
    transformers: str
    phasebench: str
    unmeasured: NotRequired[dict[str, str]]


class ControlRow(TypedDict):
    """A finding's number in a control, and its difference from the measured number with an interval.

    ``differs`` is None if the difference has no interval. ``quantity`` is the number's name, empty if it is
    the finding's.
    """

    control: str
    value: Number
    difference: Number
    low: Number
    high: Number
    differs: bool | None
    note: str
    quantity: str


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
        provenance: checkpoint and data digests, prompt, seed, dtype, quantization, device, versions.
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
        subject: the name of the number, the condition that decided; empty if none did.
        bound: the value that the number must exceed; null if it has no such bound.
        line: the number in words, with its name, interval and bound; empty if there is no number.
        detail: more about the verdict: other conditions, layers, the reason for a verdict without a number.
        controls: for each control the finding's number (`value`), the `difference` (measured minus control)
            with its interval, whether it `differs`, and the number's name (`quantity`) if it is another.
        recorded: the baseline's verdict; null if there is none, empty if it cannot be read.
        data: the finding's own data, such as `phases` of `four_phases`: `{pattern, layers, low, high}`,
            whether each boundary lies near the paper's (`near_paper`), and the verdict `from_layer_1`.
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
    subject: str
    bound: Number
    line: str
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
class BaselineEntry(Entry):
    """The two sides of a case's comparison, and what the case wrote.

    Attributes:
        name: the curve, or ``verdicts/<finding>``.
        checkpoint: the measured checkpoint's digest.
        prompt: the measured prompt.
        baseline: the name of the model under which the baseline is recorded.
        baseline_folder: the folder of its files; empty if there is none.
        baseline_checkpoint: its checkpoint's digest; empty if it is not known.
        baseline_prompt: its prompt; empty if it is not known.
        definitions: other definitions or inputs of the two sides, in words; empty if there are none.
        written: the folder in which this run wrote the baseline; empty if it did not.
        unwritten: the folder in which this run could not write it; empty if there was no such error.
        error: why it could not be written.
    """

    kind: ClassVar[str] = "baseline"

    name: str
    checkpoint: str
    prompt: str
    baseline: str
    baseline_folder: str = ""
    baseline_checkpoint: str = ""
    baseline_prompt: str = ""
    definitions: str = ""
    written: str = ""
    unwritten: str = ""
    error: str = ""


@dataclass(kw_only=True)
class UncomparedEntry(Entry):
    """A curve or verdict that could not be compared.

    Attributes:
        name: the curve, or ``verdicts/<finding>``.
        reason: why, in one line.
        remedy: the option that would help; empty if none would.
    """

    kind: ClassVar[str] = "uncompared"

    name: str
    reason: str
    remedy: str = ""
