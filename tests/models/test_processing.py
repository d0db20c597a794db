"""The processing digest: of the tensors that a processor makes of one image and the prompt."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import TINY_PROMPT_LLAVA, ModelSpec
from phasebench.settings import Settings


def test_the_digest_stays_if_files_are_saved_again(folder: Path, tmp_path: Path) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    loaded.model.save_pretrained(tmp_path / "copy")
    loaded.processor.save_pretrained(tmp_path / "copy")
    copy = load(ModelSpec("it", tmp_path / "copy", TINY_PROMPT_LLAVA), Path(), Settings())
    assert copy.processing_digest() == loaded.processing_digest() != ""
    assert replace(loaded, prompt=f"{TINY_PROMPT_LLAVA} a").processing_digest() != loaded.processing_digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_mean", [0.1] * 3), ("image_std", [0.1] * 3), ("do_normalize", False), ("resample", 0)],
)
def test_the_digest_follows_the_image_processor(folder: Path, name: str, value: object) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    before = loaded.processing_digest()
    setattr(loaded.processor.image_processor, name, value)
    assert loaded.processing_digest() != before


def test_a_processor_that_takes_no_image_has_an_empty_digest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    monkeypatch.setattr(loaded, "_processed", refuse)
    assert loaded.processing_digest() == ""


def test_the_digest_follows_the_query_formers_tokens(tiny_instructblip: LoadedModel) -> None:
    """As of one that lost [CLS] and [SEP]: the language model's prompt stays the same."""
    before = tiny_instructblip.processing_digest()
    processor = copy.deepcopy(tiny_instructblip.processor)
    tokenizer = processor.qformer_tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["[NEW]"]})
    tokenize = tokenizer.__class__.__call__

    class Longer(tokenizer.__class__):  # type: ignore[misc, name-defined]
        def __call__(self, text: object, **options: object) -> object:
            return tokenize(self, [f"[NEW] {line}" for line in text], **options)  # type: ignore[attr-defined]

    tokenizer.__class__ = Longer
    assert replace(tiny_instructblip, processor=processor).processing_digest() != before
