"""Processors without torchvision: those that take videos too are put together from their parts."""

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
from tests.support import zoo

QWEN = {
    "<|image_pad|>": 380, "<|video_pad|>": 381, "<|vision_start|>": 382, "<|vision_end|>": 383,
}  # fmt: skip
INTERNVL = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip


def tokenizer(named: dict[str, int], **extra: Any) -> PreTrainedTokenizerFast:
    """400 words, those ``named`` at their ids."""
    vocabulary = {word: index for index, word in enumerate(("<pad>", "<s>", "</s>", "<unk>"))} | named
    taken = set(vocabulary.values())
    vocabulary |= {f"w{index}": index for index in range(400) if index not in taken}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **marks, **extra)
    made.add_special_tokens({"additional_special_tokens": list(named)})
    return made


def folder(name: str, images: str, words: PreTrainedTokenizerFast, path: Path) -> Path:
    """A checkpoint of a zoo's model with the parts of its processor."""
    model = zoo.specimen(name).model
    model.save_pretrained(path)
    vision = model.config.vision_config
    asked = {"patch_size": "patch_size", "merge_size": "spatial_merge_size"}
    sizes = {to: getattr(vision, of) for to, of in asked.items() if hasattr(vision, "spatial_merge_size")}
    getattr(transformers, images)(**sizes).save_pretrained(path)
    words.save_pretrained(path)
    return path


def test_a_processor_of_pictures_and_videos_serves_for_pictures(tmp_path: Path) -> None:
    place = folder("qwen2_5_vl", "Qwen2VLImageProcessorPil", tokenizer(QWEN), tmp_path / "qwen")
    loaded = load(
        ModelSpec("qwen", place, "w5 <|vision_start|> <|image_pad|> <|vision_end|> w6 w7"), tmp_path
    )
    assert type(loaded.processor).__name__ == "Qwen2_5_VLProcessor"
    inputs = loaded.inputs([Image.effect_noise((96, 64), 90).convert("RGB")])
    anatomy = dissect(loaded.model, inputs)
    assert self_test(anatomy, inputs).unmeasured == {}
    layout = probed_pass(anatomy, inputs)[0].layout
    assert layout["visual"][0][0] == 2
    assert layout["text"] == 5


def test_its_settings_and_template_are_kept(tmp_path: Path) -> None:
    extra = {"extra_special_tokens": INTERNVL}
    place = folder(
        "internvl", "GotOcr2ImageProcessorPil", tokenizer({"<IMG_CONTEXT>": 380}, **extra), tmp_path
    )
    (place / "processor_config.json").write_text(
        json.dumps({"processor_class": "InternVLProcessor", "image_seq_length": 4})
    )
    (place / "chat_template.jinja").write_text("{{ messages[0]['role'] }}")
    processor = load_processor("internvl", place)
    assert processor.image_seq_length == 4
    assert processor.chat_template == "{{ messages[0]['role'] }}"
    assert processor.video_processor is None


def test_what_has_to_be_installed_is_named(tmp_path: Path) -> None:
    place = folder("smolvlm", "SmolVLMImageProcessorPil", tokenizer({"<image>": 380}), tmp_path)
    with pytest.raises(InputError, match=r"--model smolvlm: .*'phasebench\[torchvision\]'.*num2words"):
        load_processor("smolvlm", place)


def test_any_other_failure_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(InputError, match="--model mine: cannot load the processor in"):
        load_processor("mine", tmp_path)


def test_an_old_template_file_goes_before_the_tokenizers_own(tmp_path: Path) -> None:
    """As transformers reads it where torchvision is there: the same checkpoint has the same prompt."""
    words = tokenizer(QWEN, chat_template="{{ 'text only' }}")
    place = folder("qwen2_5_vl", "Qwen2VLImageProcessorPil", words, tmp_path / "qwen")
    assert load_processor("qwen", place).chat_template == "{{ 'text only' }}"
    (place / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'with pictures' }}"}))
    assert load_processor("qwen", place).chat_template == "{{ 'with pictures' }}"
