"""What is written is a standard folder: loaded, prepared, prompted and measured like any other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BeitConfig,
    Blip2ForConditionalGeneration,
    GPTJConfig,
    LlamaConfig,
    LlavaProcessor,
)

from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import projector_of
from phasebench.models.converters import folder_parts as parts
from phasebench.models.converters import limber, minigpt4, minigpt_v2
from tests.conftest import Run
from tests.models.converters.given import MODELS, PROMPTS, Converted
from tests.support import official_files as files


def test_the_generic_adapter_finds_every_part(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    anatomy = dissect(converted.loaded.model, inputs)
    assert len(anatomy.layers) == 2
    assert anatomy.head is converted.loaded.model.get_output_embeddings()
    assert anatomy.image_token == files.ENTRIES
    assert len(anatomy.sites) == 2
    assert projector_of(converted.loaded.model) is not None
    assert self_test(anatomy, inputs).unmeasured == {}


def test_the_folder_is_a_standard_one(converted: Converted) -> None:
    config = json.loads((converted.folder / "config.json").read_text())
    assert config["architectures"] == [type(converted.loaded.model).__name__]
    assert (converted.folder / "model.safetensors").is_file()
    assert not [path for path in converted.folder.iterdir() if path.suffix in {".bin", ".pth"}]
    assert isinstance(converted.loaded.processor, LlavaProcessor)


def test_minigpt4_loads_without_any_class_of_ours(every: dict[str, Converted]) -> None:
    config = json.loads((every["minigpt4"].folder / "config.json").read_text())
    assert config["model_type"] == "blip-2"
    assert config["text_config"]["model_type"] == "llama"
    assert type(every["minigpt4"].loaded.model) is Blip2ForConditionalGeneration


def test_the_chat_template_speaks_the_family_s_prompt(converted: Converted) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "Describe this image in detail."}]
    rendered = converted.loaded.processor.apply_chat_template([{"role": "user", "content": content}])
    assert rendered == PROMPTS[converted.given.name].replace("[caption] ", "")


def test_prompts_hold_one_image() -> None:
    assert minigpt4.PROMPT == "###Human: <Img><image></Img> Describe this image in detail. ###Assistant: "
    assert minigpt_v2.PROMPT.startswith("[INST] <Img><image></Img> [caption] ")
    assert minigpt_v2.PROMPT.endswith(" [/INST]")
    assert limber.PROMPT == "<image>A picture of"


def test_image_tokens_of_the_published_sizes() -> None:
    text = LlamaConfig(vocab_size=32001)
    assert minigpt4.full_config(text, 32000).num_query_tokens == 32
    assert minigpt_v2.full_config(text, 32000).image_seq_length == 256
    assert limber.full_config(BeitConfig(), GPTJConfig(), 50400).image_seq_length == 196


@pytest.mark.parametrize(("size", "tokens"), [(224, 32), (448, 256)])
def test_a_processor_puts_as_many_tokens_as_said(size: int, tokens: int) -> None:
    words = files.tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    made = parts.processor(parts.eva_images(size), words, tokens, size, "")
    batch = made(images=[files.picture()], text=["<Img><image></Img>"], return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 3, size, size)
    assert int((batch["input_ids"] == files.ENTRIES).sum()) == tokens


@pytest.mark.parametrize("name", ["minigpt4", "minigpt_v2"])
def test_images_are_prepared_as_the_official_code_does(every: dict[str, Converted], name: str) -> None:
    """Resize((size, size), BICUBIC), ToTensor, Normalize(CLIP's mean and deviation); no crop."""
    side = every[name].loaded.model.config.vision_config.image_size
    pixels = every[name].loaded.inputs([files.picture()])["pixel_values"]
    resized = files.picture().resize((side, side), Image.Resampling.BICUBIC)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    wanted = (torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255 - mean) / deviation
    torch.testing.assert_close(pixels[0], wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_converted_folder_runs_whole(
    run: Run, pytester: pytest.Pytester, every: dict[str, Converted], name: str
) -> None:
    result = run("--snapshot-update", "--results", "results.json", model=f"tiny-{name}={every[name].folder}")
    assert result.ret == 0
    (found,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert found["selftest"]["unmeasured"] == {}
    assert found["selftest"]["attention_rows"] == found["selftest"]["layers"] == 2
