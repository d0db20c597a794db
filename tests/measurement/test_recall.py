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
    entry_words,
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


def test_numerals_are_no_words_whether_in_letters_or_digits() -> None:
    assert words("one dog, two dogs, three cats and 4 birds") == ["dog", "dogs", "cats", "birds"]


def test_reference_words_are_the_union_of_the_captions() -> None:
    assert reference_words(("a red cat", "the cat sleeps")) == {"red", "cat", "sleeps"}


ENTRIES = ["<s>", "Ġcat", "Ġdog", "Ġumb", "rella", "Cat", "Ġ!", "ĠCat"]


@pytest.fixture
def vocabulary() -> Vocabulary:
    vocabulary = Vocabulary(entry_words(ENTRIES, [entry.removeprefix("Ġ") for entry in ENTRIES]))
    vocabulary.pieces["umbrella"] = 3
    return vocabulary


def test_a_word_is_hit_whole_or_by_its_first_piece(vocabulary: Vocabulary) -> None:
    assert vocabulary.count_hits(vocabulary.decode([1]), {"cat", "dog"}) == (1, 1)
    assert vocabulary.count_hits(vocabulary.decode([7, 2]), {"cat", "dog"}) == (2, 2)
    assert vocabulary.count_hits(vocabulary.decode([3]), {"umbrella"}) == (1, 0)
    assert vocabulary.count_hits(vocabulary.decode([4]), {"umbrella"}) == (0, 0)
    assert vocabulary.count_hits(vocabulary.decode([0, 6]), {"cat"}) == (0, 0)


def test_a_token_that_continues_a_word_is_no_word(vocabulary: Vocabulary) -> None:
    """``Cat`` without the mark of a word's start is the end of ``bobCat``."""
    assert vocabulary.count_hits(vocabulary.decode([5]), {"cat"}) == (0, 0)


@pytest.mark.parametrize(
    ("entries", "words_of_entries"),
    [
        (["▁red", "red", "▁"], ["red", "", ""]),
        (["red", "##red", "[CLS]"], ["red", "", "cls"]),
        (["red", "car", "."], ["red", "car", ""]),
    ],
)
def test_each_kind_of_tokenizer_marks_its_words(entries: list[str], words_of_entries: list[str]) -> None:
    assert entry_words(entries, [entry.removeprefix("▁") for entry in entries]) == words_of_entries


def test_one_entry_with_a_mark_makes_no_marked_vocabulary() -> None:
    entries = [*("cat" for _ in range(200)), "▁dog"]
    assert entry_words(entries, entries)[0] == "cat"


def test_recall_is_the_share_of_reference_words_per_layer(vocabulary: Vocabulary) -> None:
    tokens = [[0, 0], [1, 1], [1, 3]]
    hits, whole = recall(vocabulary, list(map(vocabulary.decode, tokens)), {"cat", "umbrella"}).tolist()
    assert hits == [0, 0.5, 1]
    assert whole == [0, 0.5, 0.5]


def test_recall_without_reference_words_is_nan(vocabulary: Vocabulary) -> None:
    assert np.isnan(recall(vocabulary, [vocabulary.decode([1])], set())).all()
    assert math.isnan(recall(vocabulary, [vocabulary.decode([1])], ())[0, 0])


def test_the_first_piece_is_looked_up_in_the_real_tokenizer(tiny_llava: LoadedModel) -> None:
    vocabulary = Vocabulary(["x"])
    vocabulary.learn(tiny_llava.processor.tokenizer, {"cat"})
    assert vocabulary.pieces == {}
    (token,) = vocabulary.whole.values()
    assert tiny_llava.processor.tokenizer.convert_ids_to_tokens(token) == "cat"


def test_a_first_piece_needs_three_letters() -> None:
    """Shorter pieces begin so many words that they say nothing of this one."""
    vocabulary = Vocabulary([])
    vocabulary.learn(pieces_tokenizer(), {"umbrella", "igloo", "cat"})
    assert vocabulary.pieces == {"umbrella": 1}
    assert vocabulary.whole == {"cat": 5}


def test_a_byte_of_a_letter_is_no_first_piece() -> None:
    """The bytes' own spelling has three letters: ``xea``."""
    entries = {"<unk>": 0, "\u2581": 1, "<0xEA>": 2, "<0xB0>": 3, "<0x9C>": 4}
    inner = Tokenizer(models.BPE(entries, [], unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert tokenizer(" \uac1c", add_special_tokens=False)["input_ids"] == [1, 2, 3, 4]
    vocabulary = Vocabulary([])
    vocabulary.learn(tokenizer, {"\uac1c"})
    assert (vocabulary.whole, vocabulary.pieces) == ({}, {})


def pieces_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with word-start marks that splits two words."""
    entries = ["<unk>", "▁umb", "rella", "▁ig", "loo", "▁cat", "▁", *"umb"]
    scores = [(entry, -9.0 if len(entry) == 1 else -1.0) for entry in entries]
    inner = Tokenizer(models.Unigram(scores, unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


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
    assert Vocabulary(entry_words(["Ġx", "Ġy"], texts)).decode([0, 1]).words == {"café", "cat"}
    assert token_text(tokenizer, None) == ""
