"""The processing's digest: what a processor makes of one picture and the prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from phasebench.models.loading import load
from phasebench.models.named_models import TINY_PROMPT_LLAVA, ModelSpec


def test_the_processing_stays_where_files_are_written_anew(folder: Path, tmp_path: Path) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path())
    loaded.model.save_pretrained(tmp_path / "anew")
    loaded.processor.save_pretrained(tmp_path / "anew")
    anew = load(ModelSpec("it", tmp_path / "anew", TINY_PROMPT_LLAVA), Path())
    assert anew.processing() == loaded.processing() != ""
    assert replace(loaded, prompt=f"{TINY_PROMPT_LLAVA} a").processing() != loaded.processing()


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_mean", [0.1] * 3), ("image_std", [0.1] * 3), ("do_normalize", False), ("resample", 0)],
)
def test_the_processing_follows_what_is_made_of_a_picture(folder: Path, name: str, value: object) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path())
    before = loaded.processing()
    setattr(loaded.processor.image_processor, name, value)
    assert loaded.processing() != before


def test_a_processor_that_takes_no_picture_has_no_processing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path())
    monkeypatch.setattr(loaded, "_processed", refuse)
    assert loaded.processing() == ""
