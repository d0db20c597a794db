"""A processor of the model's type, where the class in the checkpoint's files does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phasebench.errors import InputError
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import TINY_PROMPT_LLAVA, ModelSpec
from phasebench.settings import Settings


def load_with_class(folder: Path, kind: str) -> LoadedModel:
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_class": kind}))
    return load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), folder, Settings(device="cpu"))


@pytest.mark.parametrize(
    "kind", ["LlavaNextProcessor", "Blip2Processor", "LlavaOnevisionProcessor", "MyProcessor"]
)
def test_the_class_of_the_type_replaces_one_that_does_not_fit(folder: Path, kind: str) -> None:
    loaded = load_with_class(folder, kind)
    assert type(loaded.processor).__name__ == "LlavaProcessor"
    assert loaded.notes == (
        "the processor is LlavaProcessor, that of the model's type; "
        f"{kind}, which the files name, does not fit",
    )


def test_another_class_that_fits_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixtral's checkpoints are of the type llava and have a processor of their own."""
    monkeypatch.setattr("phasebench.models.loading.class_of_type", lambda _: "PixtralProcessor")
    loaded = load_with_class(folder, "LlavaProcessor")
    assert type(loaded.processor).__name__ == "LlavaProcessor"
    assert loaded.notes == ()


def test_the_message_is_about_the_class_that_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasebench.models.loading.processor_of_type", lambda _: None)
    with pytest.raises(InputError):
        load_with_class(folder, "Blip2Processor")
