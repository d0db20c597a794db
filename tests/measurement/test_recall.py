"""Recall: words of captions and tokens, the derangement, and hits of words by tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from phasebench.measurement.recall import (
    Vocabulary,
    derangement,
    recall,
    reference_words,
    token_text,
    token_word,
    words,
)
from phasebench.models.loading import LoadedModel


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("Ġcat", "cat"),
        ("▁Dog", "dog"),
        ("sun", "sun"),
        ("Ġ3", ""),
        ("!", ""),
        ("<image>", "image"),
        ("▁ice-", "ice"),
        ("▁हिन्दी", "हिन्दी"),
        ("▁cafe\u0301", "café"),
        ("\ufe0f", ""),
    ],
)
def test_token_word(token: str, word: str) -> None:
    assert token_word(token) == word


def test_words_are_lower_cased_letters_without_stop_words() -> None:
    assert words("A man's Dog, on the left of 2 cats!") == ["man", "dog", "left", "cats"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("एक हिन्दी किताब", ["एक", "हिन्दी", "किताब"]),
        ("แมวอยู่ที่นี่", ["แมวอยู่ที่นี่"]),
        ("un cafe\u0301 au lait", ["un", "café", "au", "lait"]),
        ("I \u2764\ufe0f dogs", ["dogs"]),
    ],
)
def test_marks_belong_to_their_letters(caption: str, expected: list[str]) -> None:
    """Hindi's and Thai's vowels are marks; an accent may be one, or be part of its letter."""
    assert words(caption) == expected
    assert [token_word(f"▁{word}") for word in expected] == expected


def test_reference_words_are_the_union_of_the_captions() -> None:
    assert reference_words(("a red cat", "the cat sleeps")) == {"red", "cat", "sleeps"}


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(["<s>", "Ġcat", "Ġdog", "Ġum", "brella", "Cat", "Ġ!"], {"umbrella": 3})


def test_a_word_is_hit_whole_or_by_its_first_piece(vocabulary: Vocabulary) -> None:
    assert vocabulary.count_hits([1], {"cat", "dog"}) == 1
    assert vocabulary.count_hits([5, 2], {"cat", "dog"}) == 2
    assert vocabulary.count_hits([3], {"umbrella"}) == 1
    assert vocabulary.count_hits([4], {"umbrella"}) == 0
    assert vocabulary.count_hits([0, 6], {"cat"}) == 0


def test_recall_is_the_share_of_reference_words_per_layer(vocabulary: Vocabulary) -> None:
    assert recall(vocabulary, [[0, 0], [1, 1], [1, 2]], {"cat", "dog"}).tolist() == [0, 0.5, 1]


def test_recall_without_reference_words_is_nan(vocabulary: Vocabulary) -> None:
    assert np.isnan(recall(vocabulary, [[1]], set())).all()
    assert math.isnan(recall(vocabulary, [[1]], ())[0])


def test_the_first_piece_is_looked_up_in_the_real_tokenizer(tiny_llava: LoadedModel) -> None:
    vocabulary = Vocabulary(["x"])
    vocabulary.learn(tiny_llava.processor.tokenizer, {"cat"})
    assert vocabulary.pieces == {"cat": -1}


def test_the_derangement_gives_each_image_one_of_another_item() -> None:
    items = ["a", "a", "b", "b", "c", "c"]
    partners = derangement(items)
    assert sorted(partners) == list(range(6))  # type: ignore[type-var]
    assert all(items[i] != items[j] for i, j in enumerate(partners))  # type: ignore[index]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_derangement_of_single_images_uses_each_once(count: int) -> None:
    partners = derangement([str(i) for i in range(count)])
    assert sorted(partners) == list(range(count))  # type: ignore[type-var]
    assert all(i != j for i, j in enumerate(partners))


def test_a_single_item_has_no_partner() -> None:
    assert derangement(["a", "a"]) == [None, None]


def test_letters_beyond_ascii_are_decoded() -> None:
    """A byte-level tokenizer spells its entries in letters that stand for bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = ["Ġcaf\u00c3\u00a9", "Ġcat", *alphabet]
    inner = Tokenizer(models.BPE({entry: index for index, entry in enumerate(entries)}, []))
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    texts = [token_text(tokenizer, token) for token in tokenizer.convert_ids_to_tokens([0, 1])]
    assert texts == ["café", "cat"]
    assert Vocabulary(texts).decode([0, 1]) == {"café", "cat"}
    assert token_text(tokenizer, None) == ""
