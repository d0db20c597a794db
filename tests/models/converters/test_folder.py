"""The written folder is a standard checkpoint: it is loaded, prompted and measured like any other."""

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
from phasebench.models.anatomy.parts import find_projector
from phasebench.models.converters import limber, minigpt4, minigpt_v2
from phasebench.models.converters import shared_parts as parts
from tests.models.converters.official_models import MODELS, PROMPTS, Conversion
from tests.support import official_files as files
from tests.support.runs import Run


def test_the_generic_adapter_finds_every_part(conversion: Conversion) -> None:
    inputs = conversion.loaded.inputs([files.picture()])
    anatomy = dissect(conversion.loaded.model, inputs)
    assert len(anatomy.layers) == 2
    assert anatomy.head is conversion.loaded.model.get_output_embeddings()
    assert anatomy.image_token == files.ENTRIES
    assert len(anatomy.sites) == 2
    assert find_projector(conversion.loaded.model) is not None
    assert self_test(anatomy, inputs).unmeasured == {}


def test_the_folder_is_a_standard_one(conversion: Conversion) -> None:
    config = json.loads((conversion.folder / "config.json").read_text())
    assert config["architectures"] == [type(conversion.loaded.model).__name__]
    assert (conversion.folder / "model.safetensors").is_file()
    assert not [path for path in conversion.folder.iterdir() if path.suffix in {".bin", ".pth"}]
    assert isinstance(conversion.loaded.processor, LlavaProcessor)


def test_minigpt4_loads_without_a_class_of_its_own(conversions: dict[str, Conversion]) -> None:
    config = json.loads((conversions["minigpt4"].folder / "config.json").read_text())
    assert config["model_type"] == "blip-2"
    assert config["text_config"]["model_type"] == "llama"
    assert type(conversions["minigpt4"].loaded.model) is Blip2ForConditionalGeneration


def test_the_chat_template_renders_the_familys_prompt(conversion: Conversion) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "Describe this image in detail."}]
    rendered = conversion.loaded.processor.apply_chat_template([{"role": "user", "content": content}])
    assert rendered == PROMPTS[conversion.official.name].replace("[caption] ", "")


def test_prompts_have_one_image() -> None:
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
def test_a_processor_inserts_the_given_number_of_image_tokens(size: int, tokens: int) -> None:
    tokenizer = files.tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    processor = parts.llava_processor(parts.eva_image_processor(size), tokenizer, tokens, size, "")
    batch = processor(images=[files.picture()], text=["<Img><image></Img>"], return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 3, size, size)
    assert int((batch["input_ids"] == files.ENTRIES).sum()) == tokens


@pytest.mark.parametrize("name", ["minigpt4", "minigpt_v2"])
def test_images_are_prepared_as_the_official_code_does(conversions: dict[str, Conversion], name: str) -> None:
    """Resize((size, size), BICUBIC), ToTensor, Normalize(CLIP's mean and deviation); no crop."""
    side = conversions[name].loaded.model.config.vision_config.image_size
    pixels = conversions[name].loaded.inputs([files.picture()])["pixel_values"]
    resized = files.picture().resize((side, side), Image.Resampling.BICUBIC)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    expected = (torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255 - mean) / deviation
    torch.testing.assert_close(pixels[0], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_converted_folder_passes_a_whole_run(
    run: Run, pytester: pytest.Pytester, conversions: dict[str, Conversion], name: str
) -> None:
    result = run(
        "--snapshot-update", "--results", "results.json", model=f"tiny-{name}={conversions[name].folder}"
    )
    assert result.ret == 0
    (run_results,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert run_results["selftest"]["unmeasured"] == {}
    assert run_results["selftest"]["attention_rows"] == run_results["selftest"]["layers"] == 2
