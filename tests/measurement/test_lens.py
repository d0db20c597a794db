"""The lens: decoding, words, recall and the derangement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from phasebench.measurement import lens
from phasebench.measurement.lens import (
    Decoder,
    Vocabulary,
    others,
    recall,
    reference_words,
    spelled,
    token_word,
    words,
)
from phasebench.models.loading import Loaded
from tests.support.synthetic import states


def test_decoding_in_chunks_equals_decoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, norm, head = [torch.randn(9, 8) for _ in range(5)], nn.LayerNorm(8), nn.Linear(8, 90)
    for waiting, chunk in ((1, 7), (60, 9), (100, 20), (1000, 1), (1000, 1000)):
        monkeypatch.setattr(lens, "WAITING", waiting)
        monkeypatch.setattr(lens, "CHUNK", chunk)
        decoder = Decoder(norm, head)
        for hidden in layers:
            decoder.add(hidden)
        for hidden, tokens, logits in zip(layers, decoder.tokens(), decoder.logits(), strict=True):
            wanted = head(norm(hidden)).max(-1)
            assert torch.equal(tokens, wanted.indices)
            assert torch.allclose(logits, wanted.values, atol=1e-6)


def test_no_more_rows_wait_than_a_chunk_and_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "WAITING", 20 * 8)
    monkeypatch.setattr(lens, "CHUNK", 20)
    seen: list[int] = []

    class Head(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            seen.append(len(rows))
            return rows

    decoder = Decoder(None, Head())
    for _ in range(10):
        decoder.add(torch.randn(9, 8))
        assert sum(map(len, decoder._waiting)) < 20
    decoder.tokens()
    assert max(seen) <= 20
    assert sum(seen) == 90


def test_without_a_norm_the_states_are_read_as_they_are() -> None:
    hidden, head = torch.randn(5, 8), nn.Linear(8, 30)
    decoder = Decoder(None, head)
    decoder.add(hidden)
    assert torch.equal(decoder.tokens()[0], head(hidden).argmax(-1))


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
    ("caption", "found"),
    [
        ("एक हिन्दी किताब", ["एक", "हिन्दी", "किताब"]),
        ("แมวอยู่ที่นี่", ["แมวอยู่ที่นี่"]),
        ("un cafe\u0301 au lait", ["un", "café", "au", "lait"]),
        ("I \u2764\ufe0f dogs", ["dogs"]),
    ],
)
def test_marks_belong_to_their_letters(caption: str, found: list[str]) -> None:
    """Hindi's and Thai's vowels are marks; an accent may be one, or be part of its letter."""
    assert words(caption) == found
    assert [token_word(f"▁{word}") for word in found] == found


def test_reference_words_are_the_union_of_the_captions() -> None:
    assert reference_words(("a red cat", "the cat sleeps")) == {"red", "cat", "sleeps"}


def vocabulary() -> Vocabulary:
    return Vocabulary(["<s>", "Ġcat", "Ġdog", "Ġum", "brella", "Cat", "Ġ!"], {"umbrella": 3})


def test_a_word_is_hit_whole_or_by_its_first_piece() -> None:
    known = vocabulary()
    assert known.hits([1], {"cat", "dog"}) == 1
    assert known.hits([5, 2], {"cat", "dog"}) == 2
    assert known.hits([3], {"umbrella"}) == 1
    assert known.hits([4], {"umbrella"}) == 0
    assert known.hits([0, 6], {"cat"}) == 0


def test_recall_is_the_share_of_reference_words_per_layer() -> None:
    found = recall(vocabulary(), [[0, 0], [1, 1], [1, 2]], {"cat", "dog"})
    assert found.tolist() == [0, 0.5, 1]


def test_recall_without_reference_words_is_undefined() -> None:
    assert np.isnan(recall(vocabulary(), [[1]], set())).all()


def test_the_first_piece_is_looked_up_in_the_real_tokenizer(tiny_llava: Loaded) -> None:
    known = Vocabulary(["x"])
    known.learn(tiny_llava.processor.tokenizer, {"cat"})
    assert known.pieces == {"cat": -1}


def test_others_is_a_derangement_by_items() -> None:
    items = ["a", "a", "b", "b", "c", "c"]
    order = others(items)
    assert sorted(order) == list(range(6))  # type: ignore[type-var]
    assert all(items[i] != items[j] for i, j in enumerate(order))  # type: ignore[index]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_others_of_single_images(count: int) -> None:
    order = others([str(i) for i in range(count)])
    assert sorted(order) == list(range(count))  # type: ignore[type-var]
    assert all(i != j for i, j in enumerate(order))


def test_a_single_item_has_no_other() -> None:
    assert others(["a", "a"]) == [None, None]


def test_lift_over_no_other_image_is_undefined() -> None:
    assert math.isnan(recall(vocabulary(), [[1]], ())[0])


def test_letters_beyond_ascii_are_read_as_they_are_written() -> None:
    """A byte-level tokenizer spells its entries in letters that stand for bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["Ġcaf\u00c3\u00a9", "Ġcat", *alphabet]
    inner = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    entries = [spelled(tokenizer, token) for token in tokenizer.convert_ids_to_tokens([0, 1])]
    assert entries == ["café", "cat"]
    assert Vocabulary(entries).decoded([0, 1]) == {"café", "cat"}
    assert spelled(tokenizer, None) == ""


@torch.no_grad()
def test_one_panel_after_the_other_gives_the_whole_products_answer() -> None:
    head, rows = nn.Linear(96, 2500), states(70, 96)
    head.weight[2100:2200] = head.weight[:100]
    token_P, logit_P = lens.panelwise(rows, head.weight, head.bias)
    assert torch.equal(token_P, head(rows).argmax(-1))
    assert torch.allclose(logit_P, head(rows).amax(-1), rtol=1e-5)
