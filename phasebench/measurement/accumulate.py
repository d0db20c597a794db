"""From rows to curves: each row is read once, in the data set's order, and let go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phasebench.curves import Array
from phasebench.datasets.sample import Sample
from phasebench.measurement import lens
from phasebench.measurement.passes import Row
from phasebench.models.anatomy.adapter import Anatomy, not_finite

EXAMPLES = 2
"""Images whose own heatmap and decoded words are kept (Fig. 4 shows two)."""


@dataclass(frozen=True)
class Example:
    """One image, shown whole.

    Attributes:
        norms: norm-based attention [L, N].
        words: the lens' tokens as text, [L + 1][P]; empty where no lens is read.
        sample: its file and captions.
        references: the caption words that the lens may hit.
    """

    norms: Array
    words: list[list[str]]
    sample: Sample
    references: Collection[str]


class RecallScorer:
    """Turns lens tokens into recalls against an image's own and another image's captions."""

    def __init__(self, tokenizer: Any, samples: Sequence[Sample]) -> None:
        tokens = [
            lens.spelled(tokenizer, token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        ]
        self.texts = list(tokens)
        for special in tokenizer.all_special_ids:  # <image> is not the word 'image'
            tokens[special] = ""
        self.vocabulary = lens.Vocabulary(tokens)
        self.references = [lens.reference_words(sample.captions) for sample in samples]
        self.vocabulary.learn(tokenizer, set().union(*self.references))
        self.other = lens.others([sample.item for sample in samples])

    def score(self, row: Row, index: int) -> dict[str, Array]:
        """``recall``, ``recall_other`` and ``lift`` of the image with this number, [L + 1] each."""
        other = self.other[index]
        references = self.references[index], self.references[other] if other is not None else ()
        own, foreign = self._of(row, references)
        return {"recall": own, "recall_other": foreign, "lift": own - foreign}

    def blank(self, row: Row) -> dict[str, Array]:
        """Mean recall of every image's captions by what was decoded from a blank one."""
        recalls = self._of(row, self.references)
        known = [one for one in recalls if np.isfinite(one).all()]
        return {"recall": np.mean(known, axis=0) if known else recalls[0]}

    def words(self, row: Row) -> list[list[str]]:
        """The decoded tokens as text, [L + 1][P]."""
        return [[self.texts[i] if i < len(self.texts) else "" for i in ids] for ids in row.tokens.tolist()]

    def _of(self, row: Row, references: Sequence[Collection[str]]) -> list[Array]:
        """Recall of each collection of reference words [L + 1]; NaN where no lens is read."""
        if not row.tokens.size:
            return [np.full_like(row.curves["inter"], np.nan) for _ in references]
        tokens_LP = row.tokens.tolist()
        return [lens.recall(self.vocabulary, tokens_LP, reference) for reference in references]


class RowAccumulator:
    """What is kept of the rows: a few numbers per image and layer, and one heatmap.

    Attributes:
        layouts: the different ones, in order of appearance.
        seconds: of the images that this run measured.
        paired_seconds: the same and those of the plain forward pass, of the images where that was timed.
        stored: how many an earlier run had measured.
        broken: image id -> from where on its states are not finite.
        examples: the first images, by id.
    """

    def __init__(self, anatomy: Anatomy, samples: Sequence[Sample], recalls: RecallScorer) -> None:
        self._anatomy = anatomy
        self._samples = samples
        self._recalls = recalls
        self._curves: list[dict[str, Array]] = []
        self._norms: Array | None = None
        self.layouts: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.paired_seconds: list[tuple[float, float]] = []
        self.stored = 0
        self.broken: dict[str, str] = {}
        self.examples: dict[str, Example] = {}

    def add(self, row: Row) -> None:
        """Read the row of the next image; of one that is broken nothing is known."""
        index = len(self._curves)
        name = self._samples[index].id
        curves = {**row.curves, **self._recalls.score(row, index)}
        if why := self._broken(row):
            self.broken[name] = why
            curves = {curve: np.full_like(values, np.nan) for curve, values in curves.items()}
        self._curves.append(curves)
        if row.layout not in self.layouts:
            self.layouts.append(row.layout)
        if len(self.layouts) == 1 and not why:
            self._norms = row.norms if self._norms is None else self._norms + row.norms
        if index < EXAMPLES:
            words, references = self._recalls.words(row), self._recalls.references[index]
            self.examples[name] = Example(row.norms, words, self._samples[index], references)
        self._note_time(row)

    def _broken(self, row: Row) -> str:
        """Where NaN or infinity came up, if it did: an overflow of the dtype, or a corrupt weight.

        A mean over visual and text positions is finite where all their states are; where it is not measured
        the attention's sum tells.
        """
        anatomy = self._anatomy
        if "similarity" in anatomy.unmeasured:
            known, layers = row.curves["total"], sorted(site.layer for site in anatomy.sites.values())
        else:
            known, layers = row.curves["inter"], list(range(len(anatomy.layers) + 1))
        bad = next((layer for layer in layers if not np.isfinite(known[layer])), None)
        return "" if bad is None else not_finite(anatomy.model, anatomy.layers, bad)

    def _note_time(self, row: Row) -> None:
        if row.stored:
            self.stored += 1
            return
        self.seconds.append(row.seconds)
        if row.plain is not None:
            self.paired_seconds.append((row.seconds, row.plain))

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
