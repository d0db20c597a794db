"""Checkpoints from before November 2024: what is missing is taken from other files, or named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phasebench.errors import InputError
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import TINY_PROMPT_BLIP, TINY_PROMPT_LLAVA, ModelSpec, bundled_models
from phasebench.settings import Settings

CPU = Settings(device="cpu")
Change = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def as_before(folder: Path) -> None:
    """Lay a processor's files out as they were: no processor_config.json, only the image processor's."""
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor["image_processor"]))


def without_image_token(config: dict[str, Any]) -> None:
    for key in ("image_token_id", "image_token_index"):
        config.pop(key, None)


def loaded_llava(folder: Path) -> LoadedModel:
    return load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), folder, CPU)


def test_what_a_processor_lacks_is_taken_from_the_configuration(folder: Path) -> None:
    whole = loaded_llava(folder).processing_digest()
    as_before(folder)
    loaded = loaded_llava(folder)
    assert loaded.processing_digest() == whole
    assert loaded.notes == (
        "not in processor_config.json, so taken from config.json: patch_size 24, "
        "vision_feature_select_strategy default, num_additional_image_tokens 1",
    )


@pytest.mark.parametrize("key", ["patch_size", "vision_feature_select_strategy"])
def test_a_key_that_is_null_is_taken_from_the_configuration(folder: Path, key: str) -> None:
    whole = loaded_llava(folder).processing_digest()
    edit(folder / "processor_config.json", lambda config: config.update({key: None}))
    loaded = loaded_llava(folder)
    assert loaded.processing_digest() == whole
    assert len(loaded.notes) == 1
    assert key in loaded.notes[0]


def test_a_key_that_is_nowhere_is_named(folder: Path) -> None:
    from phasebench.models.older_checkpoints import complete_processor

    class Nothing:
        patch_size = None
        model_type = "llava"
        vision_config = None

        def get_text_config(self) -> Any:
            return type("Text", (), {"hidden_size": 4096})

    with pytest.raises(InputError, match=r"processor_config\.json has no patch_size, nor has config\.json; llava-hf/llava-1\.5-7b-hf has it since revision b234b804") as caught:  # fmt: skip  # noqa: E501
        complete_processor(Nothing(), Nothing(), folder)
    assert caught.value.remedy == ""


def test_an_image_token_that_only_the_tokenizer_has_is_taken_from_it(folder: Path) -> None:
    """LLaVA's configuration class has a default, which is not that of a fine-tune's own vocabulary."""
    whole = loaded_llava(folder)
    token = whole.model.config.image_token_id
    edit(folder / "config.json", without_image_token)
    loaded = loaded_llava(folder)
    assert loaded.model.config.image_token_id == token
    assert loaded.processing_digest() == whole.processing_digest()
    assert loaded.notes == (f"the image token is not in config.json, so taken from the tokenizer: {token}",)


def old_instructblip(cache: Path, target: Path) -> Path:
    """tiny-instructblip as InstructBLIP was published at first: no query tokens, no image token."""
    spec = next(spec for spec in bundled_models() if spec.name == "tiny-instructblip")
    folder = Path(shutil.copytree(spec.folder(cache, CPU), target / "old"))
    as_before(folder)
    edit(folder / "config.json", without_image_token)
    return folder


def test_query_tokens_are_taken_from_the_configuration(cache: Path, tmp_path: Path) -> None:
    folder = old_instructblip(cache, tmp_path)
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_BLIP), folder, CPU)
    assert loaded.processor.num_query_tokens == 4
    assert "num_query_tokens 4" in " ".join(loaded.notes)
    assert "taken from the tokenizer" in " ".join(loaded.notes)


def test_an_image_token_without_an_embedding_is_refused_with_the_revision_that_has_it(
    cache: Path, tmp_path: Path
) -> None:
    """Vicuna's first embeddings had no row for it."""
    folder = old_instructblip(cache, tmp_path)
    edit(folder / "tokenizer.json", lambda content: _rename(content, "<image>", "picture_"))
    with pytest.raises(InputError) as caught:
        load(ModelSpec("it", folder, TINY_PROMPT_BLIP), folder, CPU)
    assert "config.json has no image_token_index, and no row of its" in str(caught.value)
    assert "newer revisions of the published models have it" in str(caught.value)
    assert caught.value.remedy == ""


def _rename(content: dict[str, Any], old: str, new: str) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary[new] = vocabulary.pop(old)
