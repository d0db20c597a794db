"""Accumulating rows into curves: each row is read once, in the dataset's order, and not kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phasebench.curves import Array
from phasebench.datasets.sample import Sample
from phasebench.measurement.passes import Row
from phasebench.measurement.recall import RecallScorer
from phasebench.models.anatomy.adapter import Anatomy, non_finite_message

EXAMPLE_COUNT = 2
"""Number of images whose own heatmap and decoded words are stored (Fig. 4 shows two)."""


@dataclass(frozen=True)
class ExampleImage:
    """One image with its own heatmap and decoded words.

    Attributes:
        norms: norm-based attention [L, N].
        words: the lens' tokens as text, [L + 1][P]; empty if the lens is not measured.
        sample: its file and captions.
        references: the caption words that the lens may hit.
    """

    norms: Array
    words: list[list[str]]
    sample: Sample
    references: Collection[str]


class RowAccumulator:
    """Collects a few numbers per image and layer from the rows, and one heatmap.

    Attributes:
        layouts: the different layouts of the prompt, in order of appearance.
        seconds: seconds per image of the instrumented pass, for the images that this run measured.
        paired_seconds: seconds of the instrumented and of the plain pass, for the images where both were
            timed.
        stored: the number of images that an earlier run had measured.
        broken: id of an image -> the first layer and module with states that are not finite.
        examples: the first images, by id.
    """

    def __init__(self, anatomy: Anatomy, samples: Sequence[Sample], scorer: RecallScorer) -> None:
        self._anatomy = anatomy
        self._samples = samples
        self._scorer = scorer
        self._curves: list[dict[str, Array]] = []
        self._norms: Array | None = None
        self.layouts: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.paired_seconds: list[tuple[float, float]] = []
        self.stored = 0
        self.broken: dict[str, str] = {}
        self.examples: dict[str, ExampleImage] = {}

    def add(self, row: Row) -> None:
        """Read the row of the next image; a broken image has NaN in all its curves."""
        index = len(self._curves)
        name = self._samples[index].id
        curves = {**row.curves, **self._scorer.score(row, index)}
        if reason := self._non_finite_states(row):
            self.broken[name] = reason
            curves = {curve: np.full_like(values, np.nan) for curve, values in curves.items()}
        self._curves.append(curves)
        if row.layout not in self.layouts:
            self.layouts.append(row.layout)
        if len(self.layouts) == 1 and not reason:
            self._norms = row.norms if self._norms is None else self._norms + row.norms
        if index < EXAMPLE_COUNT:
            words, references = self._scorer.decoded_texts(row), self._scorer.references[index]
            self.examples[name] = ExampleImage(row.norms, words, self._samples[index], references)
        self._note_time(row)

    def _non_finite_states(self, row: Row) -> str:
        """A message with the first layer whose states are NaN or infinite; empty if all states are finite.

        The cause is an overflow of the dtype or a corrupt weight. ``inter`` is finite if the states at all
        visual and text positions are. If similarity is not measured, ``total`` is checked instead.
        """
        anatomy = self._anatomy
        if "similarity" in anatomy.unmeasured:
            values, layers = row.curves["total"], sorted(site.layer for site in anatomy.sites.values())
        else:
            values, layers = row.curves["inter"], list(range(len(anatomy.layers) + 1))
        first = next((layer for layer in layers if not np.isfinite(values[layer])), None)
        return "" if first is None else non_finite_message(anatomy.model, anatomy.layers, first)

    def _note_time(self, row: Row) -> None:
        if row.from_store:
            self.stored += 1
            return
        self.seconds.append(row.seconds)
        if row.plain_seconds is not None:
            self.paired_seconds.append((row.seconds, row.plain_seconds))

    def arrays(self) -> dict[str, Array]:
        """One array [images, L + 1] per curve."""
        return stack(self._curves)

    def heatmap(self) -> Array | None:
        """Mean norm-based attention [L, N] of the images that are not broken; None where layouts differ."""
        if self._norms is None or len(self.layouts) != 1:
            return None
        return self._norms / (len(self._curves) - len(self.broken))


def stack(curves: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """One array [images, L + 1] per curve, from one mapping per image."""
    return {name: np.stack([row[name] for row in curves]) for name in curves[0]}
