"""LogitLens (nostalgebraist; paper section 3.3): visual states decoded into words, and their recall.

Shapes: P visual positions, D width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import regex
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasebench.curves import Array
from phasebench.measurement import screen
from phasebench.measurement.stopwords import STOPWORDS

WAITING = 1 << 20
"""Numbers, of states that wait to be decoded together."""
CHUNK = 1024
"""Positions whose logits over the whole vocabulary are held at once, where the head is called as it is."""
_WORD_START = regex.compile("^[\u0120\u2581 ]")
_LETTERS = regex.compile(r"\p{L}[\p{L}\p{M}]*")
"""With the marks that belong to them, such as the vowels of Hindi and Thai."""


class Decoder:
    """The top-1 tokens of states that come layer by layer, and their logits.

    A few dozen rows make a slow matrix product, so layers wait until ``WAITING`` numbers are together;
    no more than that, and one layer, is ever kept. ``final_norm`` None leaves states as they are.
    Entries from ``vocabulary`` on are padding; those that are True in ``never`` [V] are not decoded.
    Where the head has a ``Screen``, only what that leaves open is multiplied.
    """

    def __init__(
        self,
        final_norm: nn.Module | None,
        head: nn.Module,
        vocabulary: int | None = None,
        never: Tensor | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._never = never
        self._final_norm = final_norm
        self._head = head
        self._waiting: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._sizes: list[int] = []

    def add(self, hidden_PD: Tensor) -> None:
        """Take the states of one more layer."""
        self._sizes.append(len(hidden_PD))
        normed = hidden_PD if self._final_norm is None else self._final_norm(hidden_PD)
        device = self._waiting[0].device if self._waiting else normed.device
        self._waiting.append(normed.to(device))
        if sum(rows_PD.numel() for rows_PD in self._waiting) >= WAITING:
            self._decode()

    def tokens(self) -> list[Tensor]:
        """The top-1 token of each state [P], per layer."""
        return self._by_layer(self._tokens)

    def logits(self) -> list[Tensor]:
        """The logit of that token [P], per layer."""
        return self._by_layer(self._logits)

    def _by_layer(self, parts: list[Tensor]) -> list[Tensor]:
        if self._waiting:
            self._decode()
        return list(torch.split(torch.cat(parts), self._sizes))

    def _decode(self) -> None:
        rows_PD = torch.cat(self._waiting)
        self._waiting.clear()
        token_P, logit_P = self._top1(rows_PD)
        self._tokens.append(token_P)
        self._logits.append(logit_P)

    def _top1(self, rows_PD: Tensor) -> tuple[Tensor, Tensor]:
        alike = rows_PD.dtype == torch.float32 and self._never is None
        found = screen.screen_of(self._head, self._vocabulary) if alike else None
        if found is None:
            return self._multiplied(rows_PD)
        token_P, logit_P, proven_P = found.top1(rows_PD)
        if not bool(proven_P.all()):
            token_P[~proven_P], logit_P[~proven_P] = self._multiplied(rows_PD[~proven_P])
        return token_P, logit_P

    def _multiplied(self, rows_PD: Tensor) -> tuple[Tensor, Tensor]:
        """The top-1 tokens of the float32 (or other) product itself, and their logits [P]."""
        if screen.is_plain(self._head) and self._never is None:
            return panelwise(rows_PD, self._head.weight[: self._vocabulary], self._head.bias)
        parts = [self._called(part_PD) for part_PD in torch.split(rows_PD, CHUNK)]
        token_P, logit_P = (torch.cat(part) for part in zip(*parts, strict=True))
        return token_P, logit_P

    def _called(self, rows_PD: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self._head(rows_PD)[:, : self._vocabulary]
        if self._never is not None:
            logits = logits.masked_fill(self._never.to(logits.device), -torch.inf)
        return logits.argmax(-1), logits.amax(-1)


def panelwise(rows_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first largest entry of each row's product and its value [P]; a panel's logits stay in the cache."""
    logit_P = rows_PD.new_full((len(rows_PD),), -torch.inf)
    token_P = torch.zeros(len(rows_PD), dtype=torch.long)
    every = torch.arange(len(rows_PD))
    for start in range(0, len(weight_VD), screen.PANEL):
        panel = slice(start, start + screen.PANEL)
        logits = F.linear(rows_PD, weight_VD[panel], None if bias_V is None else bias_V[panel])
        screen.take_larger(token_P, logit_P, every, logits, start)
    return token_P, logit_P


def words(text: str) -> list[str]:
    """The words of a caption: lower-cased runs of letters, without stop-words."""
    return [word for word in _letters(text) if word not in STOPWORDS]


def token_word(token: str) -> str:
    """A vocabulary entry without its word-start mark, lower-cased, letters only ('' if none)."""
    return "".join(_letters(_WORD_START.sub("", token)))


def _letters(text: str) -> list[str]:
    """Its runs of letters, lower-cased; an accent is part of its letter however it was written."""
    return list(_LETTERS.findall(unicodedata.normalize("NFC", text.lower())))


def spelled(tokenizer: Any, token: str | None) -> str:
    """A vocabulary entry as text: byte-level tokenizers write letters beyond ASCII as other letters."""
    bare = _WORD_START.sub("", token or "")
    return bare if bare.isascii() else str(tokenizer.convert_tokens_to_string([bare]))


class Vocabulary:
    """A tokenizer's entries as words, and the first piece of each word that it splits."""

    def __init__(self, tokens: Sequence[str], pieces: dict[str, int] | None = None) -> None:
        self._words = [token_word(token or "") for token in tokens]
        self.pieces = pieces or {}

    def decoded(self, token_ids: Iterable[int]) -> set[str]:
        """The words among these token ids."""
        return {self._words[i] for i in set(token_ids) if i < len(self._words)} - {""}

    def learn(self, tokenizer: object, reference: Iterable[str]) -> None:
        """Look up the first piece of every reference word that is not one token."""
        for word in reference:
            if word not in self.pieces:
                self.pieces[word] = _first_piece(tokenizer, word)

    def hits(self, token_ids: Sequence[int], reference: Collection[str]) -> int:
        """How many reference words were decoded, whole or by their first piece."""
        found, ids = self.decoded(token_ids), set(token_ids)
        return sum(word in found or self.pieces.get(word, -1) in ids for word in reference)


def _first_piece(tokenizer: object, word: str) -> int:
    """The first token of ' word', or -1 when the word is a single token."""
    ids = tokenizer(" " + word, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    bare = [i for i in ids if token_word(str(tokenizer.convert_ids_to_tokens(i)))]  # type: ignore[attr-defined]
    return int(bare[0]) if len(bare) > 1 else -1


def recall(vocabulary: Vocabulary, tokens_LP: Sequence[Sequence[int]], reference: Collection[str]) -> Array:
    """Share of the reference words hit at each layer [L + 1]; NaN without reference words."""
    if not reference:
        return np.full(len(tokens_LP), np.nan)
    return np.array([vocabulary.hits(ids, reference) / len(reference) for ids in tokens_LP])


def others(items: Sequence[str]) -> list[int | None]:
    """A fixed derangement: for each image the index of one that belongs to the next item.

    ``items`` names each image's item, in the data set's order. None where there is no other item.
    """
    members: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault(item, []).append(index)
    order = list(members)
    if len(order) < 2:
        return [None] * len(items)
    following = {item: members[order[(k + 1) % len(order)]] for k, item in enumerate(order)}
    return [following[item][members[item].index(i) % len(following[item])] for i, item in enumerate(items)]


@lru_cache(maxsize=4096)
def reference_words(captions: tuple[str, ...]) -> frozenset[str]:
    """The reference words of an image: the union of its captions' words."""
    return frozenset(word for caption in captions for word in words(caption))
