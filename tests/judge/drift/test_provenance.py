"""Which conditions of two measurements differ, in words."""

from __future__ import annotations

from typing import Any

import pytest

from phasebench.judge.drift.provenance import DEFINITIONS, notes

RECORDED: dict[str, Any] = {
    "checkpoint": "a", "prompt": "p", "processing": "x", "tokenizers": {"tokenizer": "t"}, "lens_norm": True,
    "last_layer": "raw", "dtype": "float32", "data": "d",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processing": "y"}, "processing differs: the same picture and prompt give other pixels or tokens"),
        ({"tokenizers": {"tokenizer": "u"}}, "tokenizers differ: another tokenizer (vocabulary, merges"),
        (
            {"tokenizers": {"tokenizer": "t", "qformer_tokenizer": "q"}},
            "tokenizers differ: another qformer_tokenizer (vocabulary, merges",
        ),
        ({"last_layer": "normed"}, "last_layer differs: raw recorded, normed now"),
        ({"lens_norm": False}, "lens_norm differs: True recorded, False now"),
    ],
)
def test_other_definitions_are_named(change: dict[str, Any], words: str) -> None:
    (line,) = notes(RECORDED, {**RECORDED, **change}, DEFINITIONS)
    assert line.startswith(words)


def test_what_an_old_baseline_lacks_is_not_compared() -> None:
    old = {key: RECORDED[key] for key in RECORDED if key not in ("processing", "tokenizers", "last_layer")}
    assert notes(old, RECORDED) == ()


def test_old_baselines_have_the_last_layer_before_the_norm() -> None:
    old = {key: value for key, value in RECORDED.items() if key != "last_layer"}
    (line,) = notes(old, {**RECORDED, "last_layer": "normed"})
    assert line == "last_layer differs: raw recorded, normed now"


def test_conditions_that_are_no_definitions_are_named_beside_a_drift_only() -> None:
    after = {**RECORDED, "dtype": "bfloat16"}
    assert notes(RECORDED, after) == ("dtype differs: float32 recorded, bfloat16 now",)
    assert notes(RECORDED, after, DEFINITIONS) == ()
