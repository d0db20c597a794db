"""The keys of images and captions that people's files have."""

from __future__ import annotations

from typing import Any

import pytest

from phasebench.datasets import keys
from phasebench.errors import InputError
from tests.support.paths import ROOT

QUESTION, ANSWER = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": " a cat "}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"image_path": "a.png"}, "a.png"),
        ({"Image Name": "a.png"}, "a.png"),
        ({" File-Name ": "a.png"}, "a.png"),
        ({"image": None, "file_name": "a.png"}, "a.png"),
        ({"images": ["a.png"]}, "a.png"),
        ({"image": {"bytes": None, "path": "a.png"}}, "a.png"),
        ({"filepath": "val2014", "filename": "a.png"}, "val2014/a.png"),
        ({"filepath": "sub/a.png", "filename": "a.png"}, "a.png"),
        ({"filepath": "sub/a.png"}, "sub/a.png"),
        ({"image": "a.jpg#3"}, "a.jpg"),
    ],
)
def test_the_name_of_an_image_is_found_under_any_usual_key(row: dict[str, Any], name: str) -> None:
    assert keys.image_name(keys.plain_keys(row)) == name


@pytest.mark.parametrize(
    ("row", "captions"),
    [
        ({"Caption": " a "}, ("a",)),
        ({"captions": [], "caption": "a"}, ("a",)),
        ({"captions": ["a", None, "", float("nan")]}, ("a",)),
        ({"sentences": [{"tokens": ["a"], "raw": "a ."}, {"raw": "b"}]}, ("a .", "b")),
        ({" comment": "a"}, ("a",)),
        ({"raw": '["a, b", "c"]'}, ("a, b", "c")),
        ({"raw": "['a', \"b's\"]"}, ("a", "b's")),
        ({"caption": '["unclosed'}, ('["unclosed',)),
        ({"caption_10": "c", "caption_2": "b", "caption_1": "a", "caption_3": None}, ("a", "b", "c")),
        ({"conversations": [QUESTION, ANSWER]}, ("a cat",)),
        ({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "?"},
                       {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}, ("a",)),
        ({"conversations": [QUESTION, ANSWER, QUESTION, ANSWER]}, ()),
        ({"conversations": [QUESTION]}, ()),
        ({"prompt": "a"}, ()),
    ],
)  # fmt: skip
def test_captions_are_found_under_any_usual_key(row: dict[str, Any], captions: tuple[str, ...]) -> None:
    assert keys.captions(keys.plain_keys(row)) == captions


def test_a_row_in_winogrounds_form_is_two_images_of_one_item() -> None:
    row = {"image_0": "a", "image_1": "b", "caption_0": "x y", "caption_1": "y x"}
    assert keys.pair({"id": 3, **row}) == [
        {"image": "a", "caption": "x y", "id": "3_0", "item": 3},
        {"image": "b", "caption": "y x", "id": "3_1", "item": 3},
    ]
    assert [side["item"] for side in keys.pair(row)] == ["a, b", "a, b"]
    assert keys.pair({"image": "a"}) == [{"image": "a"}]


def test_a_file_without_captions_is_told_the_keys() -> None:
    keys.check_captions("x.jsonl", found=True, keys=["prompt"])
    with pytest.raises(
        InputError, match=r"x\.jsonl: no row has a caption: its keys are a, prompt; read are cap"
    ):
        keys.check_captions("x.jsonl", found=False, keys=["a", "prompt"])


def test_the_documentation_has_all_keys() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    all_keys = (*keys.IMAGE_KEYS, *keys.CAPTION_KEYS, *keys.CONVERSATION_KEYS, *keys.PAIR_KEYS)
    assert [key for key in all_keys if f"`{key}`" not in page] == []
