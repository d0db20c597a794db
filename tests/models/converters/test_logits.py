"""A converted model computes what the official code does, from the official files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BeitForMaskedImageModeling,
    GPTJForCausalLM,
    LlamaForCausalLM,
)

from phasebench.models.converters import limber, minigpt4, minigpt_v2
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings
from tests.models.converters.official_models import MODELS, PROMPTS, Conversion, OfficialModel
from tests.support import official_files as files

TOLERANCE = 1e-5


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def expected_minigpt4(official: OfficialModel, pixels: Tensor) -> Tensor:
    eva, rest = read(official.path("vit.pth")), read(official.path("qformer.pth"))["model"]
    features = files.eva_features(eva, pixels, eva["pos_embed"])
    queries = files.qformer_output(rest, files.norm(features, rest, "ln_vision", 1e-6))
    image = files.linear(queries, read(official.path("checkpoint.pth"))["model"], "llama_proj")
    return files.image_logits(
        LlamaForCausalLM.from_pretrained(official.path("llama")), minigpt4.PROMPT, image
    )


def expected_minigpt_v2(official: OfficialModel, pixels: Tensor) -> Tensor:
    eva, checkpoint = read(official.path("vit.pth")), read(official.path("checkpoint.pth"))["model"]
    cls, patches = eva["pos_embed"][:, :1], eva["pos_embed"][:, 1:]
    patches = patches.mT.reshape(1, files.VWIDTH, files.GRID, files.GRID)
    patches = F.interpolate(patches, size=(2 * files.GRID,) * 2, mode="bicubic", align_corners=False)
    features = files.eva_features(eva, pixels, torch.cat([cls, patches.flatten(2).mT], 1))
    features = F.layer_norm(features, (files.VWIDTH,))[:, 1:]
    fours = torch.cat([features[:, offset::4] for offset in range(4)], -1)
    llama = LlamaForCausalLM.from_pretrained(official.path("llama"))
    adapt(llama, checkpoint)
    return files.image_logits(llama, minigpt_v2.PROMPT, files.linear(fours, checkpoint, "llama_proj"))


def adapt(llama: Any, checkpoint: dict[str, Tensor]) -> None:
    """Run the low-rank weights beside the projections, as peft does, with the official alpha of 16."""
    for name, module in llama.named_modules():
        down = checkpoint.get(f"llama_model.base_model.model.{name}.lora_A.weight")
        if down is None:
            continue
        up = checkpoint[f"llama_model.base_model.model.{name}.lora_B.weight"]

        def add(_: Any, args: tuple[Tensor], out: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
            return out + args[0] @ down.mT @ up.mT * (16 / files.RANK)

        module.register_forward_hook(add)


def expected_limber(official: OfficialModel, pixels: Tensor) -> Tensor:
    beit = BeitForMaskedImageModeling.from_pretrained(official.path("beit")).beit
    with torch.inference_mode():
        features = beit(pixels).last_hidden_state[:, 1:]
    projection = {f"proj.{name}": value for name, value in read(official.path("proj.ckpt")).items()}
    image = files.linear(features, projection, "proj")
    return files.image_logits(GPTJForCausalLM.from_pretrained(official.path("gptj")), limber.PROMPT, image)


EXPECTED = {"minigpt4": expected_minigpt4, "minigpt_v2": expected_minigpt_v2, "limber": expected_limber}


def test_logits_are_those_of_the_official_composition(conversion: Conversion) -> None:
    inputs = conversion.loaded.inputs([files.picture()])
    with torch.inference_mode():
        logits = conversion.loaded.model(**inputs).logits[..., : files.ENTRIES]
    expected = EXPECTED[conversion.official.name](conversion.official, inputs["pixel_values"])
    assert logits.shape == expected.shape
    assert expected.std() > 0.1  # else there would be nothing to compare
    torch.testing.assert_close(logits, expected, rtol=0, atol=TOLERANCE)


def test_the_image_matters(conversion: Conversion) -> None:
    first, second = (conversion.loaded.inputs([files.picture(seed)]) for seed in (0, 1))
    with torch.inference_mode():
        difference = conversion.loaded.model(**first).logits - conversion.loaded.model(**second).logits
    assert difference.abs().max() > 1e-3


def test_padding_on_the_left_changes_nothing(conversion: Conversion) -> None:
    loaded = conversion.loaded
    texts = [loaded.prompt, f"A picture of {loaded.prompt}"]
    images = [files.picture(0), files.picture(1)]
    batch = loaded.processor(images=images, text=texts, padding=True, return_tensors="pt")
    alone = loaded.processor(images=images[:1], text=texts[:1], return_tensors="pt")
    length = alone["input_ids"].shape[1]
    assert batch["attention_mask"][0].tolist() == [0] * 3 + [1] * length
    with torch.inference_mode():
        padded = loaded.model(**batch).logits[:1, -length:]
        torch.testing.assert_close(padded, loaded.model(**alone).logits, rtol=0, atol=TOLERANCE)


def test_the_image_token_is_never_the_answer(conversion: Conversion) -> None:
    inputs = conversion.loaded.inputs([files.picture()])
    with torch.inference_mode():
        logits = conversion.loaded.model(**inputs).logits
    token = conversion.loaded.model.config.image_token_id
    assert logits.shape[-1] == files.ENTRIES + 1 == token + 1
    torch.testing.assert_close(logits[..., token], logits[..., :token].mean(-1), rtol=0, atol=TOLERANCE)
    assert not (logits.argmax(-1) == token).any()


def test_generation_goes_on_from_the_prompt(conversion: Conversion) -> None:
    inputs = conversion.loaded.inputs([files.picture()])
    out = conversion.loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        first = conversion.loaded.model(**inputs).logits[0, -1].argmax()
    length = inputs["input_ids"].shape[1]
    answer = out[0, length:] if out.shape[1] > length else out[0]
    assert answer[0] == first


def test_logits_to_keep_limits_the_computed_logits(conversion: Conversion) -> None:
    inputs = conversion.loaded.inputs([files.picture()])
    with torch.inference_mode():
        whole = conversion.loaded.model(**inputs, use_cache=False).logits
        last = conversion.loaded.model(**inputs, use_cache=False, logits_to_keep=1).logits
    torch.testing.assert_close(last, whole[:, -1:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["minigpt_v2", "limber"])
def test_a_wrong_number_of_image_tokens_is_refused(conversions: dict[str, Conversion], name: str) -> None:
    loaded = conversions[name].loaded
    inputs = loaded.inputs([files.picture()])
    row = inputs["input_ids"][0]
    place = int((row == loaded.model.config.image_token_id).nonzero()[0])
    ids = torch.cat([row[:place], row[place + 1 :]])[None]
    with pytest.raises(ValueError, match="do not match"):
        loaded.model(input_ids=ids, pixel_values=inputs["pixel_values"])


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_close(conversions: dict[str, Conversion], name: str) -> None:
    whole = conversions[name]
    half = load(
        ModelSpec(name, whole.folder, PROMPTS[name]), whole.folder, Settings(device="cpu", dtype="bfloat16")
    )
    assert half.dtype == torch.bfloat16
    with torch.inference_mode():
        logits = half.model(**half.inputs([files.picture()])).logits.float()
        expected = whole.loaded.model(**whole.loaded.inputs([files.picture()])).logits
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()
