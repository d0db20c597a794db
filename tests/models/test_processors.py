"""Processors without torchvision: those that also take videos are built from their parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from phasebench.errors import InputError
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.models.processors import load_processor
from phasebench.settings import Settings
from tests.support import zoo
from tests.support.versions import since

QWEN = {
    "<|image_pad|>": 380, "<|video_pad|>": 381, "<|vision_start|>": 382, "<|vision_end|>": 383,
}  # fmt: skip
INTERNVL = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip


def tokenizer(special_ids: dict[str, int], **extra: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of 400 words, with special tokens at the given ids."""
    vocabulary = {word: index for index, word in enumerate(("<pad>", "<s>", "</s>", "<unk>"))} | special_ids
    used_ids = set(vocabulary.values())
    vocabulary |= {f"w{index}": index for index in range(400) if index not in used_ids}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **marks, **extra)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special_ids)})
    return tokenizer


def folder(name: str, images: str, words: PreTrainedTokenizerFast, path: Path) -> Path:
    """A checkpoint of a model from the zoo, with the parts of its processor."""
    model = zoo.specimen(name).model
    model.save_pretrained(path)
    vision = model.config.vision_config
    names = {"patch_size": "patch_size", "merge_size": "spatial_merge_size"}
    sizes = {to: getattr(vision, of) for to, of in names.items() if hasattr(vision, "spatial_merge_size")}
    getattr(transformers, images)(**sizes).save_pretrained(path)
    words.save_pretrained(path)
    return path


def test_a_processor_of_pictures_and_videos_serves_for_pictures(tmp_path: Path) -> None:
    place = folder("qwen2_5_vl", "Qwen2VLImageProcessorPil", tokenizer(QWEN), tmp_path / "qwen")
    loaded = load(
        ModelSpec("qwen", place, "w5 <|vision_start|> <|image_pad|> <|vision_end|> w6 w7"),
        tmp_path,
        Settings(),
    )
    assert type(loaded.processor).__name__ == "Qwen2_5_VLProcessor"
    inputs = loaded.inputs([Image.effect_noise((96, 64), 90).convert("RGB")])
    anatomy = dissect(loaded.model, inputs)
    assert self_test(anatomy, inputs).unmeasured == {}
    layout = probed_pass(anatomy, inputs)[0].layout
    assert layout["visual"][0][0] == 2
    assert layout["text"] == 5


@since("5.17", "processors without torchvision")
def test_the_processors_configuration_and_template_are_kept(tmp_path: Path) -> None:
    extra = {"extra_special_tokens": INTERNVL}
    place = folder(
        "internvl", "GotOcr2ImageProcessorPil", tokenizer({"<IMG_CONTEXT>": 380}, **extra), tmp_path
    )
    (place / "processor_config.json").write_text(
        json.dumps({"processor_class": "InternVLProcessor", "image_seq_length": 4})
    )
    (place / "chat_template.jinja").write_text("{{ messages[0]['role'] }}")
    processor = load_processor(place)
    assert processor.image_seq_length == 4
    assert processor.chat_template == "{{ messages[0]['role'] }}"
    assert processor.video_processor is None


@since("5.20", "image processors without torchvision")
def test_the_error_names_what_to_install(tmp_path: Path) -> None:
    place = folder("smolvlm", "SmolVLMImageProcessorPil", tokenizer({"<image>": 380}), tmp_path)
    with pytest.raises(
        InputError, match=r"processor needs torchvision .*'phasebench\[torchvision\]'.*num2words"
    ):
        load_processor(place)


def test_any_other_failure_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(InputError, match=r"^cannot load the processor in"):
        load_processor(tmp_path)


def test_an_old_template_file_goes_before_the_tokenizers_own(tmp_path: Path) -> None:
    """transformers with torchvision does the same, so the same checkpoint has the same prompt."""
    words = tokenizer(QWEN, chat_template="{{ 'text only' }}")
    place = folder("qwen2_5_vl", "Qwen2VLImageProcessorPil", words, tmp_path / "qwen")
    assert load_processor(place).chat_template == "{{ 'text only' }}"
    (place / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'with pictures' }}"}))
    assert load_processor(place).chat_template == "{{ 'with pictures' }}"
