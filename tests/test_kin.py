"""MiniGPT-4, MiniGPT-v2 and LiMBeR: converted from tiny official files, they compute what the originals do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BeitConfig,
    BeitForMaskedImageModeling,
    Blip2ForConditionalGeneration,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaProcessor,
)

from phasebench.errors import InputError
from phasebench.measure.selftest import self_test
from phasebench.models import kin
from phasebench.models.adapter import dissect, projector_of
from phasebench.models.kin import limber, minigpt4, minigpt_v2, official, parts
from phasebench.models.kin.__main__ import main
from phasebench.models.loading import Loaded, load
from phasebench.models.registry import ModelSpec
from tests import official_files as files

MODELS = ("minigpt4", "minigpt_v2", "limber")
TOLERANCE = 1e-5
LIKE_4 = SimpleNamespace(
    vision_config=files.vision_config(), qformer_config=files.qformer_config(), num_query_tokens=files.QUERIES
)
LIKE_V2 = SimpleNamespace(vision_config=files.vision_config(factor=2), image_seq_length=files.GRID**2)
PROMPTS = {"minigpt4": minigpt4.PROMPT, "minigpt_v2": minigpt_v2.PROMPT, "limber": limber.PROMPT}


@dataclass
class Given:
    """The official files of one model, with which ``convert`` makes ``out``."""

    name: str
    folder: Path

    def path(self, what: str) -> Path:
        return self.folder / what

    def convert(self, out: str = "out") -> Path:
        path, target = self.path, self.folder / out
        if self.name == "minigpt4":
            return minigpt4.convert(
                path("vit.pth"), path("qformer.pth"), path("llama"), path("checkpoint.pth"), target, like=LIKE_4
            )
        if self.name == "minigpt_v2":
            return minigpt_v2.convert(
                path("vit.pth"), path("llama"), path("checkpoint.pth"), target, like=LIKE_V2, rank=files.RANK
            )
        return limber.convert(path("beit"), path("gptj"), path("proj.ckpt"), target)

    def resave(self, what: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Save one pickled file again with a change to its table of tensors."""
        content = torch.load(self.path(what), weights_only=True)
        change(content.get("model", content))
        torch.save(content, self.path(what))


def write_files(name: str, folder: Path) -> Given:
    torch.manual_seed(MODELS.index(name))
    if name == "limber":
        files.beit_folder(folder / "beit")
        files.gptj_folder(folder / "gptj")
        files.saved(folder / "proj.ckpt", files.linear_state(files.EYES, 32, prefix=""))
        return Given(name, folder)
    files.saved(folder / "vit.pth", files.eva_state())
    files.llama_folder(folder / "llama")
    if name == "minigpt4":
        files.saved(folder / "qformer.pth", {"model": files.qformer_state(), "epoch": 9})
        checkpoint = files.linear_state(files.QWIDTH, 24)
    else:
        checkpoint = files.linear_state(4 * files.EYES, 24) | files.lora_state()
    files.saved(folder / "checkpoint.pth", {"model": checkpoint, "optimizer": {"state": {}}, "epoch": 3})
    return Given(name, folder)


@pytest.fixture
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Given:
    """Official files that a test may break; the model is the test's parameter."""
    return write_files(request.param, tmp_path)


@dataclass
class Converted:
    """A converted model, loaded, beside what it was made of."""

    given: Given
    folder: Path
    loaded: Loaded


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Converted]:
    found = {}
    for name in MODELS:
        given = write_files(name, tmp_path_factory.mktemp(name))
        folder = given.convert()
        found[name] = Converted(given, folder, load(ModelSpec(name, folder, PROMPTS[name]), folder, device="cpu"))
    return found


@pytest.fixture(params=MODELS)
def converted(request: pytest.FixtureRequest, every: dict[str, Converted]) -> Converted:
    return every[request.param]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


# What the official models compute, from the official files alone.


def expected_minigpt4(given: Given, pixels: Tensor) -> Tensor:
    eva, rest = read(given.path("vit.pth")), read(given.path("qformer.pth"))["model"]
    features = files.eva_features(eva, pixels, eva["pos_embed"])
    queries = files.qformer_output(rest, files.norm(features, rest, "ln_vision", 1e-6))
    image = files.linear(queries, read(given.path("checkpoint.pth"))["model"], "llama_proj")
    return files.spliced(LlamaForCausalLM.from_pretrained(given.path("llama")), minigpt4.PROMPT, image)


def expected_minigpt_v2(given: Given, pixels: Tensor) -> Tensor:
    eva, checkpoint = read(given.path("vit.pth")), read(given.path("checkpoint.pth"))["model"]
    cls, patches = eva["pos_embed"][:, :1], eva["pos_embed"][:, 1:]
    patches = patches.mT.reshape(1, files.EYES, files.GRID, files.GRID)
    patches = F.interpolate(patches, size=(2 * files.GRID,) * 2, mode="bicubic", align_corners=False)
    features = files.eva_features(eva, pixels, torch.cat([cls, patches.flatten(2).mT], 1))
    features = F.layer_norm(features, (files.EYES,))[:, 1:]
    fours = torch.cat([features[:, offset::4] for offset in range(4)], -1)
    llama = LlamaForCausalLM.from_pretrained(given.path("llama"))
    adapt(llama, checkpoint)
    return files.spliced(llama, minigpt_v2.PROMPT, files.linear(fours, checkpoint, "llama_proj"))


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


def expected_limber(given: Given, pixels: Tensor) -> Tensor:
    beit = BeitForMaskedImageModeling.from_pretrained(given.path("beit")).beit
    with torch.inference_mode():
        features = beit(pixels).last_hidden_state[:, 1:]
    projection = {f"proj.{name}": value for name, value in read(given.path("proj.ckpt")).items()}
    image = files.linear(features, projection, "proj")
    return files.spliced(GPTJForCausalLM.from_pretrained(given.path("gptj")), limber.PROMPT, image)


EXPECTED = {"minigpt4": expected_minigpt4, "minigpt_v2": expected_minigpt_v2, "limber": expected_limber}


def test_logits_are_those_of_the_official_composition(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    with torch.inference_mode():
        logits = converted.loaded.model(**inputs).logits[..., : files.ENTRIES]
    wanted = EXPECTED[converted.given.name](converted.given, inputs["pixel_values"])
    assert logits.shape == wanted.shape
    assert wanted.std() > 0.1  # else there would be nothing to compare
    torch.testing.assert_close(logits, wanted, rtol=0, atol=TOLERANCE)


def test_the_image_matters(converted: Converted) -> None:
    one, other = (converted.loaded.inputs([files.picture(seed)]) for seed in (0, 1))
    with torch.inference_mode():
        difference = converted.loaded.model(**one).logits - converted.loaded.model(**other).logits
    assert difference.abs().max() > 1e-3


def test_padding_on_the_left_changes_nothing(converted: Converted) -> None:
    loaded = converted.loaded
    texts = [loaded.prompt, f"A picture of {loaded.prompt}"]
    images = [files.picture(0), files.picture(1)]
    batch = loaded.processor(images=images, text=texts, padding=True, return_tensors="pt")
    alone = loaded.processor(images=images[:1], text=texts[:1], return_tensors="pt")
    length = alone["input_ids"].shape[1]
    assert batch["attention_mask"][0].tolist() == [0] * 3 + [1] * length
    with torch.inference_mode():
        padded = loaded.model(**batch).logits[:1, -length:]
        torch.testing.assert_close(padded, loaded.model(**alone).logits, rtol=0, atol=TOLERANCE)


def test_the_image_token_is_never_the_answer(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    with torch.inference_mode():
        logits = converted.loaded.model(**inputs).logits
    token = converted.loaded.model.config.image_token_id
    assert logits.shape[-1] == files.ENTRIES + 1 == token + 1
    torch.testing.assert_close(logits[..., token], logits[..., :token].mean(-1), rtol=0, atol=TOLERANCE)
    assert not (logits.argmax(-1) == token).any()


def test_generation_goes_on_from_the_prompt(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    out = converted.loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        first = converted.loaded.model(**inputs).logits[0, -1].argmax()
    length = inputs["input_ids"].shape[1]
    answer = out[0, length:] if out.shape[1] > length else out[0]
    assert answer[0] == first


def test_only_the_asked_logits_are_computed(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    with torch.inference_mode():
        whole = converted.loaded.model(**inputs, use_cache=False).logits
        last = converted.loaded.model(**inputs, use_cache=False, logits_to_keep=1).logits
    torch.testing.assert_close(last, whole[:, -1:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["minigpt_v2", "limber"])
def test_a_wrong_number_of_image_tokens_is_refused(every: dict[str, Converted], name: str) -> None:
    loaded = every[name].loaded
    inputs = loaded.inputs([files.picture()])
    row = inputs["input_ids"][0]
    place = int((row == loaded.model.config.image_token_id).nonzero()[0])
    ids = torch.cat([row[:place], row[place + 1 :]])[None]
    with pytest.raises(ValueError, match="do not match"):
        loaded.model(input_ids=ids, pixel_values=inputs["pixel_values"])


def test_the_generic_adapter_finds_every_part(converted: Converted) -> None:
    inputs = converted.loaded.inputs([files.picture()])
    anatomy = dissect(converted.loaded.model, inputs)
    assert len(anatomy.layers) == 2
    assert anatomy.head is converted.loaded.model.get_output_embeddings()
    assert anatomy.image_token == files.ENTRIES
    assert len(anatomy.outputs) == 2
    assert projector_of(converted.loaded.model) is not None
    assert self_test(anatomy, inputs).failures == []


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


# Full-size models, without any memory for their weights.

VICUNA_13B = {
    "vocab_size": 32001, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40,
}  # fmt: skip
BEIT_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "use_mask_token": True, "use_shared_relative_position_bias": True,
}  # fmt: skip


def full_size(name: str) -> tuple[Any, Any, list[official.Piece]]:
    """The class, configuration and table of a published model."""
    if name == "minigpt4":
        config = minigpt4.full_config(LlamaConfig(**VICUNA_13B), 32000)
        return Blip2ForConditionalGeneration, config, minigpt4.table(config, 32000)
    if name == "minigpt_v2":
        config = minigpt_v2.full_config(LlamaConfig(vocab_size=32001), 32000)
        return minigpt_v2.MiniGPTv2ForConditionalGeneration, config, minigpt_v2.table(config, 32000)
    config = limber.full_config(BeitConfig(**BEIT_LARGE), GPTJConfig(vocab_size=50401), 50400)
    return limber.LimberForConditionalGeneration, config, limber.table(config, 50400)


def count(shapes: dict[str, official.Shape], prefix: str = "") -> int:
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(prefix))


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_the_full_model(name: str) -> None:
    model_class, config, table = full_size(name)
    with torch.device("meta"):
        state = model_class(config).state_dict()
    assert {piece.name: piece.shape for piece in table} == {key: tuple(value.shape) for key, value in state.items()}
    assert len(table) == len(state)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_of_the_published_sizes(name: str) -> None:
    """By hand: a Llama of width D, inner width I and L layers has L (4 D D + 3 D I + 2 D) + D, and 2 V D."""
    shapes = {piece.name: piece.shape for piece in full_size(name)[2]}
    print(f"{name}: {count(shapes) / 1e9:.3f} billion")
    if name == "minigpt4":
        llama = 40 * (4 * 5120**2 + 3 * 5120 * 13824 + 2 * 5120) + 5120 + 2 * 32001 * 5120
        assert count(shapes, "language_model.") == llama == 13_015_864_320 + 2 * 5120
        assert count(shapes, "language_projection.") == 768 * 5120 + 5120
        assert round(count(shapes) / 1e9, 1) == 14.1
    elif name == "minigpt_v2":
        assert count(shapes, "model.language_model.") + count(shapes, "lm_head.") == 6_738_415_616 + 2 * 4096
        assert round(count(shapes, "model.vision_tower.") / 1e9, 2) == 0.99
        assert count(shapes, "model.multi_modal_projector.") == 5632 * 4096 + 4096
    else:
        assert count(shapes, "model.language_model.") + count(shapes, "lm_head.") == 6_050_882_784 + 2 * 4096 + 1
        assert round(count(shapes, "model.vision_tower.") / 1e9, 2) == 0.30
        assert count(shapes, "model.multi_modal_projector.") == 1024 * 4096 + 4096


def official_names(table: list[official.Piece], source: str) -> dict[str, official.Shape]:
    return {part.name: part.shape for piece in table for part in piece.parts if part.source == source}


def test_the_official_files_of_minigpt4() -> None:
    table = full_size("minigpt4")[2]
    eva, rest = official_names(table, "vit"), official_names(table, "qformer")
    assert len(eva) == 4 + 39 * 13
    assert eva["pos_embed"] == (1, 257, 1408)
    assert eva["patch_embed.proj.weight"] == (1408, 3, 14, 14)
    assert eva["blocks.38.mlp.fc1.weight"] == (6144, 1408)
    assert eva["blocks.0.attn.q_bias"] == eva["blocks.0.attn.v_bias"] == (1408,)
    assert rest["query_tokens"] == (1, 32, 768)
    assert rest["Qformer.bert.encoder.layer.10.crossattention.self.key.weight"] == (768, 1408)
    assert "Qformer.bert.encoder.layer.11.crossattention.self.key.weight" not in rest
    assert rest["ln_vision.weight"] == (1408,)
    assert official_names(table, "checkpoint") == {"llama_proj.weight": (5120, 768), "llama_proj.bias": (5120,)}
    assert official_names(table, "language")["model.embed_tokens.weight"] == (32000, 5120)


def test_the_official_files_of_minigpt_v2() -> None:
    table = full_size("minigpt_v2")[2]
    assert official_names(table, "vit") == official_names(full_size("minigpt4")[2], "vit")
    checkpoint = official_names(table, "checkpoint")
    assert len(checkpoint) == 2 + 32 * 2 * 2
    assert checkpoint["llama_proj.weight"] == (4096, 5632)
    stem = "llama_model.base_model.model.model.layers.31.self_attn.v_proj"
    assert checkpoint[f"{stem}.lora_A.weight"] == (64, 4096)
    assert checkpoint[f"{stem}.lora_B.weight"] == (4096, 64)


def test_the_official_files_of_limber() -> None:
    table = full_size("limber")[2]
    assert official_names(table, "projection") == {"weight": (4096, 1024), "bias": (4096,)}
    language = official_names(table, "language")
    assert language["transformer.wte.weight"] == (50400, 4096)
    assert language["lm_head.bias"] == (50400,)
    assert language["transformer.h.27.attn.out_proj.weight"] == (4096, 4096)
