"""Recall of caption words by the tokens that the LogitLens decodes (paper section 3.3).

A caption's words are its runs of letters, without stop-words. A word is recalled if a decoded token is the
whole word or, if the tokenizer splits the word, its first piece of at least ``PIECE_LETTERS`` letters. Tokens
that continue a word are no words. Shapes: L + 1 layers, P visual positions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import regex

from phasebench.curves import Array
from phasebench.datasets.sample import Sample
from phasebench.measurement.passes import Row

PIECE_LETTERS = 3
"""Letters that a split word's first piece needs. Shorter ones begin so many words that they are decoded by
chance: with LLaMA's tokenizer the one-letter tokens alone give a recall of 0.08."""
MARKED_SHARE = 0.01
"""If fewer entries of a vocabulary have a word-start mark, its tokenizer has no such mark."""
_WORD_START = regex.compile("^[\u0120\u2581 ]")
_CONTINUATION = "##"
"""What WordPiece puts before pieces that continue a word; word starts have no mark there."""
_BYTE = regex.compile("^<0x[0-9A-F]{2}>$")
"""What LLaMA's tokenizer spells letters with that its vocabulary lacks, one byte each."""
_LETTERS = regex.compile(r"\p{L}[\p{L}\p{M}]*")
"""A run of letters with their marks, such as the vowels of Hindi and Thai."""
_STOPWORD_TEXT = """
a about above across after all along also an and another any are around as at away back be because
been before behind being below beneath beside between both but by can could did do does doing down
each either for from further had has have having he her here hers him his how i if in inside into is
it its itself just like many may more most much near next no nor not now of off on once only
onto or other out outside over own per s she should so some such t than that the their theirs them
then there these they this those through to too toward towards under until up upon very was we
were what when where which while who whose why will with within without would you your
"""
_NUMERALS = """
zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand
"""
STOPWORDS = frozenset([*_STOPWORD_TEXT.split(), *_NUMERALS.split()])
"""English words without image content; fixed here, so that no update of a library changes a recall. Numerals
are left out as words just as the digits in ``2 dogs`` are."""


def words(text: str) -> list[str]:
    """The words of a caption: lower-cased runs of letters, without stop-words."""
    return [word for word in _letters(text) if word not in STOPWORDS]


@lru_cache(maxsize=4096)
def reference_words(captions: tuple[str, ...]) -> frozenset[str]:
    """The reference words of an image: the union of its captions' words."""
    return frozenset(word for caption in captions for word in words(caption))


def token_word(token: str) -> str:
    """The word of a vocabulary entry: lower-cased, letters only, no word-start mark; it may be empty."""
    if _BYTE.match(token):
        return ""
    return "".join(_letters(_WORD_START.sub("", token)))


def token_text(tokenizer: Any, token: str | None) -> str:
    """The text of a vocabulary entry, in which byte-level tokenizers replace all letters beyond ASCII."""
    bare = _WORD_START.sub("", token or "")
    return bare if bare.isascii() else str(tokenizer.convert_tokens_to_string([bare]))


def _letters(text: str) -> list[str]:
    """The runs of letters in a text, lower-cased; NFC makes an accent part of its letter."""
    return list(_LETTERS.findall(unicodedata.normalize("NFC", text.lower())))


def entry_words(entries: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The word of each vocabulary entry; empty for an entry that continues a word, or that has no letters.

    Args:
        entries: the entries as the tokenizer spells them, with their marks.
        texts: the entries as text (``token_text``).
    """
    begins = _begin_words(entries)
    return [token_word(text) if begin else "" for text, begin in zip(texts, begins, strict=True)]


def _begin_words(entries: Sequence[str]) -> list[bool]:
    """Whether each entry begins a word; all do if the tokenizer marks neither starts nor continuations."""
    if any(entry.startswith(_CONTINUATION) for entry in entries):
        return [not entry.startswith(_CONTINUATION) for entry in entries]
    marked = [bool(_WORD_START.match(entry)) for entry in entries]
    return marked if sum(marked) >= MARKED_SHARE * len(entries) else [True] * len(entries)


class Decoded(NamedTuple):
    """What one layer decodes.

    Attributes:
        ids: the token ids.
        words: the words among them.
    """

    ids: set[int]
    words: set[str]


class Vocabulary:
    """A tokenizer's entries as words, and the tokens of the reference words.

    Attributes:
        whole: reference word -> its token, for words that are a single token.
        pieces: reference word -> the token of its first piece, for words that the tokenizer splits; without
            those whose first piece has fewer than ``PIECE_LETTERS`` letters.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """``words``: the word of each token (``entry_words``)."""
        self._words = words
        self.whole: dict[str, int] = {}
        self.pieces: dict[str, int] = {}

    def decode(self, token_ids: Iterable[int]) -> Decoded:
        """These token ids and the words among them."""
        ids = set(token_ids)
        return Decoded(ids, {self._words[i] for i in ids if i < len(self._words)} - {""})

    def learn(self, tokenizer: Any, reference: Iterable[str]) -> None:
        """Look up the tokens of the reference words within a sentence."""
        for word in set(reference) - self.whole.keys() - self.pieces.keys():
            ids = tokenizer(" " + word, add_special_tokens=False)["input_ids"]
            texts = {i: token_word(token_text(tokenizer, tokenizer.convert_ids_to_tokens(i))) for i in ids}
            with_letters = [i for i in ids if texts[i]]
            if len(with_letters) == 1:
                self.whole[word] = with_letters[0]
            elif with_letters and len(texts[with_letters[0]]) >= PIECE_LETTERS:
                self.pieces[word] = with_letters[0]

    def count_hits(self, decoded: Decoded, reference: Collection[str]) -> tuple[int, int]:
        """How many reference words were decoded whole or by their first piece, and how many whole."""
        ids, words = decoded
        whole = {word for word in reference if word in words or self.whole.get(word, -1) in ids}
        by_piece = {word for word in reference if self.pieces.get(word, -1) in ids}
        return len(whole | by_piece), len(whole)


def recall(vocabulary: Vocabulary, layers: Sequence[Decoded], reference: Collection[str]) -> Array:
    """The shares of reference words that are hits, and that are hit whole, at each layer [2, L + 1].

    NaN without reference words.
    """
    if not reference:
        return np.full((2, len(layers)), np.nan)
    hits = np.array([vocabulary.count_hits(decoded, reference) for decoded in layers], dtype=np.float64)
    return hits.T / len(reference)


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
        entries = [entry or "" for entry in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        self.texts = [token_text(tokenizer, entry) for entry in entries]
        token_words = entry_words(entries, self.texts)
        for special in tokenizer.all_special_ids:  # <image> is not the word 'image'
            token_words[special] = ""
        self.vocabulary = Vocabulary(token_words)
        self.references = [reference_words(sample.captions) for sample in samples]
        self.vocabulary.learn(tokenizer, set().union(*self.references))
        self.partners = derangement([sample.item for sample in samples])

    def score(self, row: Row, index: int) -> dict[str, Array]:
        """The curves that count caption words, [L + 1] each, of the image with the number ``index``."""
        partner = self.partners[index]
        references = self.references[index], self.references[partner] if partner is not None else ()
        (own, whole), (other, _) = self._recalls(row, references)
        return {"recall": own, "recall_whole": whole, "recall_other": other, "lift": own - other}

    def score_blank(self, row: Row) -> dict[str, Array]:
        """``recall`` and ``recall_whole`` [L + 1] of a blank image: means over the captions of all images."""
        recalls = self._recalls(row, self.references)
        finite = [values for values in recalls if np.isfinite(values).all()]
        own, whole = np.mean(finite, axis=0) if finite else recalls[0]
        return {"recall": own, "recall_whole": whole}

    def decoded_texts(self, row: Row) -> list[list[str]]:
        """The decoded tokens as text, [L + 1][P]."""
        return [[self.texts[i] if i < len(self.texts) else "" for i in ids] for ids in row.tokens.tolist()]

    def _recalls(self, row: Row, references: Sequence[Collection[str]]) -> list[Array]:
        """``recall`` of each collection of reference words [2, L + 1]; NaN if the lens is not measured."""
        if not row.tokens.size:
            return [np.full((2, len(row.curves["inter"])), np.nan) for _ in references]
        layers = [self.vocabulary.decode(ids) for ids in row.tokens.tolist()]
        return [recall(self.vocabulary, layers, reference) for reference in references]
