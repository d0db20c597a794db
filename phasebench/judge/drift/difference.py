"""Drift: a measured curve against a recorded one, layer by layer.

Images that are in both records are compared each with itself. Within one checkpoint only numerical noise is
allowed (``drift.tolerance``). Another checkpoint (``--against``) may differ by some standard deviations over
images, and drifts where the interval of the difference excludes this. Images whose ids are the same but whose
content changed are compared id by id, within the interval of their mean difference. Records without a common
image are compared within the sampling error of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

from phasebench.catalog import BY_NAME, CURVES, Captions
from phasebench.curves import Array, known_mean, members
from phasebench.judge.drift.provenance import notes as provenance_notes
from phasebench.judge.drift.record import Record, column, deviation, item_in_key, rows
from phasebench.judge.drift.tolerance import Spread, Tolerances
from phasebench.judge.statistics import MIN_ITEMS

LEVEL = 0.01
"""Probability of a false alarm for a model on a dataset, where sampling error counts. It is corrected for all
curves and layers (Bonferroni, which is conservative because they move together)."""
Pair = tuple[str, str]
"""The keys of one image in the recorded and in the measured record."""
OTHER_IMAGES = "compared with other images or captions, within the sampling error of both"


@dataclass(frozen=True)
class Difference:
    """How a measured curve differs from the recorded one; all arrays are per layer [L + 1].

    Attributes:
        curve: its name.
        recorded, measured: means over the images compared; NaN where a curve has no value.
        allowed: the allowed difference of the means, half-width included.
        half_width: half-width of the interval of the difference, corrected for the number of layers; 0 where
            only noise is allowed.
        rms_excess: root mean square over images of the difference, divided by the allowed one; 0 where
            single images may differ.
        spread: standard deviation over the recorded images.
        shared: how many images both records have; 0 if different images were compared.
        images: how many images the larger record has.
        replaced: how many of the shared images have another content than the recorded one of their id.
        layer_counts: the two numbers of layers if they differ; nothing is compared then.
        notes: other differences, a line each.
    """

    curve: str
    recorded: Array
    measured: Array
    allowed: Array
    half_width: Array
    rms_excess: Array
    spread: Array
    shared: int
    images: int
    replaced: int = 0
    layer_counts: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def excess(self) -> Array:
        """Size of the difference divided by the allowed one; above 1 is drift.

        NaN where both means are undefined; infinite where one is, or where the numbers of layers differ.
        """
        if self.layer_counts:
            return np.full(len(self.measured), np.inf)
        size = np.abs(self.measured - self.recorded) / self.allowed
        one_sided = np.isnan(self.measured) != np.isnan(self.recorded)
        return np.asarray(np.where(one_sided, np.inf, np.maximum(size, self.rms_excess)), dtype=np.float64)

    @property
    def effect(self) -> Array:
        """The difference in standard deviations over the recorded images (Glass's delta)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.measured - self.recorded) / self.spread, dtype=np.float64)

    @property
    def decidable(self) -> bool:
        """Whether any layer could drift: fewer than ``MIN_ITEMS`` items have no interval."""
        is_compared = np.isfinite(self.measured) & np.isfinite(self.recorded)
        if self.layer_counts or not is_compared.any():
            return True
        return bool(np.isfinite(self.allowed[is_compared]).any())

    @property
    def drifted(self) -> list[int]:
        """Layers whose difference exceeds the allowed one, worst first."""
        excess = np.nan_to_num(self.excess, nan=0.0, posinf=np.inf)
        order = np.argsort(-excess, kind="stable")
        return [int(layer) for layer in order if excess[layer] > 1]

    @property
    def worst(self) -> int:
        """The layer with the largest ``excess``."""
        return int(np.nan_to_num(self.excess, nan=-1.0, posinf=np.finfo(float).max).argmax())

    def describe(self) -> list[str]:
        """The drift in lines: a summary, the three worst layers, and the notes; empty without drift."""
        if self.layer_counts:
            before, after = self.layer_counts
            return [f"{self.curve}: recorded with {before} layers, measured with {after}", *self.notes]
        layers = self.drifted
        if not layers:
            return []
        summary = f"drifted at {len(layers)} of {len(self.recorded)} layers; worst at layer {layers[0]}"
        return [f"{self.curve} {summary}", *map(self._layer_line, layers[:3]), *self.notes]

    def _layer_line(self, layer: int) -> str:
        old, new = self.recorded[layer], self.measured[layer]
        change, allowed = abs(new - old), self.allowed[layer]
        numbers = f"layer {layer:3d}: {old:.5g} -> {new:.5g}"
        if np.isinf(self.excess[layer]):
            return f"{numbers}: images that had a value have none, or the other way round"
        if self.rms_excess[layer] > change / allowed:
            return f"{numbers}: single images differ by {self.rms_excess[layer]:.2g} times what noise may do"
        if self.half_width[layer]:
            low, high = new - old - self.half_width[layer], new - old + self.half_width[layer]
            effect = f", {self.effect[layer]:+.2g} sd" if np.isfinite(self.effect[layer]) else ""
            return f"{numbers} ({new - old:+.2g} [{low:.2g}, {high:.2g}]{effect})"
        return f"{numbers} ({new - old:+.2g}; allowed {allowed:.2g}, {change / allowed:.2g} times)"


def compare(
    recorded: Record, measured: Record, tolerances: Tolerances, effect: float | None = None
) -> Difference:
    """The difference of two records of one curve.

    Args:
        recorded: the record of the baseline.
        measured: the record of this run.
        tolerances: the differences that numerical noise may cause between their dtypes.
        effect: if the measured checkpoint is another one, the allowed difference in standard deviations over
            the recorded images; the interval of the difference then decides.

    Raises:
        InputError: there is no tolerance for these dtypes.
    """
    layer_counts = len(recorded["layers"]) - 1, len(measured["layers"]) - 1
    if layer_counts[0] != layer_counts[1]:
        blank = np.full(layer_counts[1] + 1, np.nan)
        return Difference(
            curve=measured["curve"],
            recorded=blank,
            measured=blank,
            allowed=blank,
            half_width=blank,
            rms_excess=blank,
            spread=blank,
            shared=0,
            images=_larger_sample(recorded, measured),
            layer_counts=layer_counts,
            notes=provenance_notes(recorded["provenance"], measured["provenance"]),
        )
    shared = [(key, key) for key in measured["images"] if key in recorded["images"]]
    replaced = _replaced_images(recorded, measured)
    if len(replaced) > len(shared):
        # Other pictures may differ in any way, so that only the interval of the mean difference decides.
        paired = _compare_images(recorded, measured, replaced, tolerances, effect or 0.0)
        note = _replaced_note(replaced, len(measured["images"]))
        return replace(paired, replaced=len(replaced), notes=(note, *paired.notes))
    items = {item_in_key(key, measured["curve"]) for key, _ in shared}
    if len(items) >= (1 if effect is None else MIN_ITEMS):
        return _compare_images(recorded, measured, shared, tolerances, effect)
    return _compare_samples(recorded, measured, tolerances, effect)


def _replaced_images(recorded: Record, measured: Record) -> list[Pair]:
    """The images with the id of a recorded image but with another content.

    There are none for a curve that depends on which other images were drawn.
    """
    name = measured["curve"]
    if BY_NAME[name].captions is Captions.OTHERS:
        return []
    before, after = (_images_by_item(entry, name) for entry in (recorded, measured))
    pairs = [
        pair
        for item, keys in after.items()
        if len(before.get(item, ())) == len(keys)
        for pair in zip(before[item], keys, strict=True)
    ]
    return [(old, new) for old, new in pairs if old != new]


def _images_by_item(entry: Record, name: str) -> dict[str, list[str]]:
    """Item -> the keys of its images, in order: an item's images have no ids of their own in a record."""
    keys: dict[str, list[str]] = {}
    for key in entry["images"]:
        keys.setdefault(item_in_key(key, name), []).append(key)
    return keys


def _replaced_note(replaced: Sequence[Pair], images: int) -> str:
    """What changed: pixels or captions; a key ends with the digests of both, or of the pixels alone."""
    pixels = [[key.rpartition(" ")[2].partition("-")[0] for key in pair] for pair in replaced]
    content = "pixels" if any(old != new for old, new in pixels) else "captions"
    return f"{len(replaced)} of {images} pictures have other {content} than recorded"


def _compare_images(
    recorded: Record, measured: Record, pairs: Sequence[Pair], tolerances: Tolerances, effect: float | None
) -> Difference:
    """Compare each image with itself; against another model only images that have a value in both records.

    ``pairs`` has the images' keys in both records.
    """
    name, notes = measured["curve"], provenance_notes(recorded["provenance"], measured["provenance"])
    shared = [new for _, new in pairs]
    before, after = rows(recorded, [old for old, _ in pairs]), rows(measured, shared)
    change = after - before
    if effect is not None:
        is_paired = np.isfinite(change) | ~np.isfinite(change).any(axis=0)
        before, after = (np.where(is_paired, values, np.nan) for values in (before, after))
    old, new, spread = known_mean(before), known_mean(after), deviation(before)
    noise, rms_noise = _noise(recorded, measured, tolerances, old, np.isfinite(change).sum(axis=0))
    if effect is None:
        half_width, rms_excess = np.zeros_like(old), np.sqrt(known_mean(change**2)) / rms_noise
        rms_excess[(np.isnan(before) != np.isnan(after)).any(axis=0)] = np.inf
        allowed = noise
    else:
        half_width = _half_width(change, [item_in_key(key, name) for key in shared])
        rms_excess = np.zeros_like(old)
        allowed = noise + effect * np.nan_to_num(spread) + half_width
    images = _larger_sample(recorded, measured)
    if len(shared) < images:
        notes = (f"compared on the {len(shared)} images that both have", *notes)
    return Difference(
        curve=name,
        recorded=old,
        measured=new,
        allowed=allowed,
        half_width=half_width,
        rms_excess=rms_excess,
        spread=spread,
        shared=len(shared),
        images=images,
        notes=notes,
    )


def _compare_samples(
    recorded: Record, measured: Record, tolerances: Tolerances, effect: float | None
) -> Difference:
    """Compare two samples of images, within the sampling error of both."""
    name, old, new = measured["curve"], column(recorded, "mean"), column(measured, "mean")
    images = np.minimum(column(recorded, "n"), column(measured, "n"))
    noise, _ = _noise(recorded, measured, tolerances, old, images)
    items = np.minimum(_items(recorded, name), _items(measured, name))
    errors = np.nan_to_num(np.hypot(column(recorded, "se"), column(measured, "se")), nan=np.inf)
    half_width = _quantile(len(old), items) * np.where(items < MIN_ITEMS, np.inf, errors)
    spread = deviation(rows(recorded, list(recorded["images"])))
    return Difference(
        curve=name,
        recorded=old,
        measured=new,
        allowed=noise + (effect or 0.0) * np.nan_to_num(spread) + half_width,
        half_width=half_width,
        rms_excess=np.zeros_like(old),
        spread=spread,
        shared=0,
        images=_larger_sample(recorded, measured),
        notes=(OTHER_IMAGES, *provenance_notes(recorded["provenance"], measured["provenance"])),
    )


def _larger_sample(recorded: Record, measured: Record) -> int:
    return max(len(recorded["images"]), len(measured["images"]))


def _noise(
    recorded: Record, measured: Record, tolerances: Tolerances, level: Array, images: Array
) -> tuple[Array, Array]:
    """The noise allowed in a mean over so many ``images``, and in their root mean square [L + 1] each."""
    dtypes = (str(record["provenance"].get("dtype")) for record in (recorded, measured))
    has_values = any(np.isfinite(column(record, "mean")).any() for record in (recorded, measured))
    # A curve that a model does not have needs no tolerance: both records must lack it, which is compared.
    noise = tolerances.between(measured["curve"], *dtypes) if has_values else Spread()
    return noise.allowed(measured["curve"], level, images)


def _quantile(layers: int, count: Array) -> Array:
    """The two-sided quantile of Student's t, corrected for all curves and layers [L + 1]."""
    return np.asarray(t.isf(LEVEL / 2 / layers / len(CURVES), np.maximum(1, count - 1)), dtype=np.float64)


def _items(recorded: Record, name: str) -> Array:
    """How many items have a value at each layer [L + 1]."""
    keys = list(recorded["images"])
    member, is_finite = members([item_in_key(key, name) for key in keys]), np.isfinite(rows(recorded, keys))
    has_value = [is_finite[member == k].any(axis=0) for k in range(member.max() + 1)]
    return np.asarray(np.sum(has_value, axis=0), dtype=np.float64)


def _half_width(change: Array, items: Sequence[str]) -> Array:
    """Half-width of the interval of the mean difference, images of an item taken together [L + 1]."""
    member = members(items)
    means = np.stack([known_mean(change[member == k]) for k in range(member.max() + 1)])
    count = np.maximum(1, np.isfinite(means).sum(axis=0))
    quantile = _quantile(change.shape[1], count)
    return np.asarray(quantile * np.nan_to_num(deviation(means), nan=np.inf) / np.sqrt(count))
