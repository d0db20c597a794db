"""Recall of caption words by the tokens that the LogitLens decodes (paper section 3.3).

A caption's words are its runs of letters, without stop-words. A word is recalled if a decoded token is the
whole word or, if the tokenizer splits the word, its first piece. Shapes: L + 1 layers, P visual positions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import regex

from phasebench.curves import Array
from phasebench.datasets.sample import Sample
from phasebench.measurement.passes import Row

_WORD_START = regex.compile("^[\u0120\u2581 ]")
_LETTERS = regex.compile(r"\p{L}[\p{L}\p{M}]*")
"""A run of letters with their marks, such as the vowels of Hindi and Thai."""
_STOPWORD_TEXT = """
a about above across after all along also an and another any are around as at away back be because
been before behind being below beneath beside between both but by can could did do does doing down
each either for from further had has have having he her here hers him his how i if in inside into is
it its itself just like many may more most much near next no nor not now of off on once one only
onto or other out outside over own per s she should so some such t than that the their theirs them
then there these they this those through to too toward towards two under until up upon very was we
were what when where which while who whose why will with within without would you your
"""
STOPWORDS = frozenset(_STOPWORD_TEXT.split())
"""English words without image content; fixed here, so that no update of a library changes a recall."""


def words(text: str) -> list[str]:
    """The words of a caption: lower-cased runs of letters, without stop-words."""
    return [word for word in _letters(text) if word not in STOPWORDS]


@lru_cache(maxsize=4096)
def reference_words(captions: tuple[str, ...]) -> frozenset[str]:
    """The reference words of an image: the union of its captions' words."""
    return frozenset(word for caption in captions for word in words(caption))


def token_word(token: str) -> str:
    """The word of a vocabulary entry: lower-cased, letters only, no word-start mark; it may be empty."""
    return "".join(_letters(_WORD_START.sub("", token)))


def token_text(tokenizer: Any, token: str | None) -> str:
    """The text of a vocabulary entry, in which byte-level tokenizers replace all letters beyond ASCII."""
    bare = _WORD_START.sub("", token or "")
    return bare if bare.isascii() else str(tokenizer.convert_tokens_to_string([bare]))


def _letters(text: str) -> list[str]:
    """The runs of letters in a text, lower-cased; NFC makes an accent part of its letter."""
    return list(_LETTERS.findall(unicodedata.normalize("NFC", text.lower())))


class Vocabulary:
    """A tokenizer's entries as words, and the first pieces of reference words that it splits.

    Attributes:
        pieces: reference word -> the token id of its first piece; -1 if it is a single token.
    """

    def __init__(self, tokens: Sequence[str], pieces: dict[str, int] | None = None) -> None:
        self._words = [token_word(token or "") for token in tokens]
        self.pieces = pieces or {}

    def decode(self, token_ids: Iterable[int]) -> set[str]:
        """The words among these token ids."""
        return {self._words[i] for i in set(token_ids) if i < len(self._words)} - {""}

    def learn(self, tokenizer: object, reference: Iterable[str]) -> None:
        """Look up the first piece of every reference word that is not a single token."""
        for word in reference:
            if word not in self.pieces:
                self.pieces[word] = _first_piece(tokenizer, word)

    def count_hits(self, token_ids: Sequence[int], reference: Collection[str]) -> int:
        """The number of reference words that were decoded, whole or by their first piece."""
        decoded, ids = self.decode(token_ids), set(token_ids)
        return sum(word in decoded or self.pieces.get(word, -1) in ids for word in reference)


def _first_piece(tokenizer: object, word: str) -> int:
    """The first token with letters of ' word', or -1 if the word is a single token."""
    ids = tokenizer(" " + word, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    bare = [i for i in ids if token_word(str(tokenizer.convert_ids_to_tokens(i)))]  # type: ignore[attr-defined]
    return int(bare[0]) if len(bare) > 1 else -1


def recall(vocabulary: Vocabulary, tokens_LP: Sequence[Sequence[int]], reference: Collection[str]) -> Array:
    """The share of reference words that are hits at each layer [L + 1]; NaN without reference words."""
    if not reference:
        return np.full(len(tokens_LP), np.nan)
    return np.array([vocabulary.count_hits(ids, reference) / len(reference) for ids in tokens_LP])


def derangement(items: Sequence[str]) -> list[int | None]:
    """For each image the index of an image of the next item, by a fixed rule; None if there is only one item.

    ``items`` has the item of each image, in the dataset's order.
    """
    members: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault(item, []).append(index)
    order = list(members)
    if len(order) < 2:
        return [None] * len(items)
    following = {item: members[order[(k + 1) % len(order)]] for k, item in enumerate(order)}
    return [following[item][members[item].index(i) % len(following[item])] for i, item in enumerate(items)]


class RecallScorer:
    """Computes the recalls of an image's own and another image's captions from the lens' tokens.

    Attributes:
        texts: every vocabulary entry as text.
        vocabulary: the entries as words.
        references: the reference words of each image.
        partners: for each image the index of the image whose captions ``recall_other`` counts; None if there
            is no other item.
    """

    def __init__(self, tokenizer: Any, samples: Sequence[Sample]) -> None:
        entries = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.texts = [token_text(tokenizer, entry) for entry in entries]
        tokens = list(self.texts)
        for special in tokenizer.all_special_ids:  # <image> is not the word 'image'
            tokens[special] = ""
        self.vocabulary = Vocabulary(tokens)
        self.references = [reference_words(sample.captions) for sample in samples]
        self.vocabulary.learn(tokenizer, set().union(*self.references))
        self.partners = derangement([sample.item for sample in samples])

    def score(self, row: Row, index: int) -> dict[str, Array]:
        """``recall``, ``recall_other`` and ``lift``, [L + 1] each, of the image with the number ``index``."""
        partner = self.partners[index]
        references = self.references[index], self.references[partner] if partner is not None else ()
        own, other = self._recalls(row, references)
        return {"recall": own, "recall_other": other, "lift": own - other}

    def score_blank(self, row: Row) -> dict[str, Array]:
        """``recall`` [L + 1] of a blank image: the mean over the captions of all images."""
        recalls = self._recalls(row, self.references)
        finite = [values for values in recalls if np.isfinite(values).all()]
        return {"recall": np.mean(finite, axis=0) if finite else recalls[0]}

    def decoded_texts(self, row: Row) -> list[list[str]]:
        """The decoded tokens as text, [L + 1][P]."""
        return [[self.texts[i] if i < len(self.texts) else "" for i in ids] for ids in row.tokens.tolist()]

    def _recalls(self, row: Row, references: Sequence[Collection[str]]) -> list[Array]:
        """The recall of each collection of reference words [L + 1]; NaN if the lens is not measured."""
        if not row.tokens.size:
            return [np.full_like(row.curves["inter"], np.nan) for _ in references]
        tokens_LP = row.tokens.tolist()
        return [recall(self.vocabulary, tokens_LP, reference) for reference in references]
