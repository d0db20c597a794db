"""MiniGPT-4, MiniGPT-v2 and LiMBeR: from tiny official files, they compute what the originals do."""

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

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import models, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BeitConfig,
    BeitForMaskedImageModeling,
    Blip2ForConditionalGeneration,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    LlavaProcessor,
)

from phasebench.errors import InputError
from phasebench.measure.selftest import self_test
from phasebench.models import kin
from phasebench.models.adapter import dissect
from phasebench.models.kin import limber, minigpt4, minigpt_v2, official, parts
from phasebench.models.kin.__main__ import main
from phasebench.models.loading import Loaded, load
from phasebench.models.parts import projector_of
from phasebench.models.registry import ModelSpec
from tests import official_files as files
from tests.conftest import Run

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
                path("vit.pth"),
                path("qformer.pth"),
                path("llama"),
                path("checkpoint.pth"),
                target,
                like=LIKE_4,
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
        found[name] = Converted(
            given, folder, load(ModelSpec(name, folder, PROMPTS[name]), folder, device="cpu")
        )
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
    assert {piece.name: piece.shape for piece in table} == {
        key: tuple(value.shape) for key, value in state.items()
    }
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
        assert (
            count(shapes, "model.language_model.") + count(shapes, "lm_head.") == 6_050_882_784 + 2 * 4096 + 1
        )
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
    assert official_names(table, "checkpoint") == {
        "llama_proj.weight": (5120, 768),
        "llama_proj.bias": (5120,),
    }
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


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_close(every: dict[str, Converted], name: str) -> None:
    whole = every[name]
    half = load(ModelSpec(name, whole.folder, PROMPTS[name]), whole.folder, device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    with torch.inference_mode():
        logits = half.model(**half.inputs([files.picture()])).logits.float()
        wanted = whole.loaded.model(**whole.loaded.inputs([files.picture()])).logits
    assert (logits - wanted).abs().max() < 0.05 * wanted.abs().max()


# What a file may be, and what it may not.


def both(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("given", [name], indirect=True)


every_model = pytest.mark.parametrize("given", MODELS, indirect=True)
LANGUAGE = {"minigpt4": "llama", "minigpt_v2": "llama", "limber": "gptj"}
CHECKPOINT = {"minigpt4": "checkpoint.pth", "minigpt_v2": "checkpoint.pth", "limber": "proj.ckpt"}
PROJECTION = {"minigpt4": "llama_proj.weight", "minigpt_v2": "llama_proj.weight", "limber": "weight"}


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "model.safetensors"))


@every_model
def test_pickled_shards_give_the_same_folder(given: Given) -> None:
    wanted = weights(given.convert("first"))
    files.as_bin(given.path(LANGUAGE[given.name]))
    found = weights(given.convert("second"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@both("minigpt4")
def test_buffers_of_older_releases_are_passed_over(given: Given) -> None:
    files.as_bin(given.path("llama"), **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)})
    given.resave(
        "checkpoint.pth", lambda state: state.update({"Qformer.bert.embeddings.position_ids": torch.ones(1)})
    )
    given.convert()


@both("limber")
def test_buffers_of_older_gptjs_are_passed_over(given: Given) -> None:
    masks = {"transformer.h.0.attn.bias": torch.ones(1), "transformer.h.1.attn.masked_bias": torch.ones(1)}
    files.as_bin(given.path("gptj"), **masks)
    given.convert()


@both("minigpt4")
def test_a_text_branch_in_the_qformer_file_is_passed_over(given: Given) -> None:
    def add(state: dict[str, Any]) -> None:
        state["Qformer.bert.embeddings.word_embeddings.weight"] = torch.ones(1)
        state["Qformer.bert.encoder.layer.0.intermediate.dense.weight"] = torch.ones(1)
        state["Qformer.cls.predictions.bias"] = torch.ones(1)

    given.resave("qformer.pth", add)
    given.convert()


@both("minigpt4")
def test_each_tensor_keeps_the_precision_of_its_file(given: Given) -> None:
    given.resave("vit.pth", lambda state: state.update({name: value.half() for name, value in state.items()}))
    found = weights(given.convert())
    assert found["vision_model.encoder.layers.0.self_attn.qkv.bias"].dtype == torch.float16
    assert found["qformer.layernorm.weight"].dtype == torch.float32


@both("minigpt4")
def test_the_old_format_of_torch_save_is_read(given: Given) -> None:
    state = torch.load(given.path("vit.pth"), weights_only=True)
    torch.save(state, given.path("vit.pth"), _use_new_zipfile_serialization=False)
    given.convert()


@both("minigpt_v2")
def test_both_spellings_of_low_rank_weights_are_read(given: Given) -> None:
    wanted = weights(given.convert("first"))
    given.resave("checkpoint.pth", lambda state: rename(state, "lora_A.weight", "lora_A.default.weight"))
    given.resave("checkpoint.pth", lambda state: rename(state, "lora_B.weight", "lora_B.default.weight"))
    found = weights(given.convert("second"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def rename(state: dict[str, Any], old: str, new: str) -> None:
    for name in [name for name in state if name.endswith(old)]:
        state[name.removesuffix(old) + new] = state.pop(name)


def test_merging_is_scaled_by_alpha_over_rank() -> None:
    base, down, up = torch.zeros(3, 3, dtype=torch.float16), torch.ones(2, 3), torch.ones(3, 2)
    merged = minigpt_v2.merged(base, down, up)
    assert merged.dtype == torch.float16
    assert merged.tolist() == [[16.0] * 3] * 3  # 16 / 2 times a product of 2


def test_positions_of_the_same_number_stay_as_they_are() -> None:
    table = files.draw(1, 17, 8)
    assert parts.resized_positions(table, 17) is table
    assert parts.resized_positions(table, 65).shape == (1, 65, 8)
    assert torch.equal(parts.resized_positions(table, 65)[:, 0], table[:, 0])


def test_a_table_that_is_long_enough_stays_as_it_is() -> None:
    table = files.draw(5, 2)
    assert parts.grown(table, 5) is table
    assert torch.allclose(parts.grown(table, 7)[5:], table.mean(0).expand(2, 2))


@every_model
def test_large_models_are_written_in_shards(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = weights(given.convert("whole"))
    monkeypatch.setattr(official, "SHARD", 4000)
    folder = given.convert("sharded")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in wanted.values())
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, framework="pt") as opened:
            assert torch.equal(opened.get_tensor(name), wanted[name])
    load(ModelSpec("mine", folder), given.folder, device="cpu")


@every_model
def test_a_missing_tensor_is_named(given: Given) -> None:
    given.resave(CHECKPOINT[given.name], lambda state: state.pop(PROJECTION[given.name]))
    with pytest.raises(InputError, match=rf"{CHECKPOINT[given.name]} .* lacks {PROJECTION[given.name]}"):
        given.convert()
    assert not given.path("out").exists()


@every_model
def test_an_unexpected_tensor_is_named(given: Given) -> None:
    given.resave(CHECKPOINT[given.name], lambda state: state.update({"extra.weight": torch.ones(1)}))
    with pytest.raises(InputError, match=rf"{CHECKPOINT[given.name]} .* unexpected extra\.weight"):
        given.convert()


@every_model
def test_a_wrong_shape_is_named(given: Given) -> None:
    given.resave(
        CHECKPOINT[given.name], lambda state: state.update({PROJECTION[given.name]: torch.ones(7, 5)})
    )
    with pytest.raises(InputError, match=rf"{PROJECTION[given.name]} has the shape \[7, 5\], not \["):
        given.convert()


@every_model
def test_a_language_model_that_lacks_a_tensor_is_named(given: Given) -> None:
    folder = given.path(LANGUAGE[given.name])
    state = weights(folder)
    state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"{folder} is not the expected file: it lacks lm_head\.weight"):
        given.convert()


@both("minigpt4")
def test_many_missing_tensors_are_counted(given: Given) -> None:
    def drop(state: dict[str, Any]) -> None:
        for name in [name for name in state if name.startswith("blocks.1.")]:
            state.pop(name)

    given.resave("vit.pth", drop)
    with pytest.raises(InputError, match=r"vit\.pth .* lacks blocks\.1\..* and 9 more"):
        given.convert()


@both("minigpt4")
def test_a_missing_file_is_named(given: Given) -> None:
    given.path("qformer.pth").unlink()
    with pytest.raises(InputError, match=r"qformer\.pth: no such file"):
        given.convert()


@every_model
def test_a_missing_language_model_is_named(given: Given) -> None:
    given.path(LANGUAGE[given.name]).rename(given.path("elsewhere"))
    with pytest.raises(InputError, match=r"config\.json is missing; give a language model"):
        given.convert()


@every_model
def test_a_language_model_without_weights_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither \*\.safetensors nor pytorch_model"):
        given.convert()


@every_model
def test_weights_twice_in_a_folder_are_refused(given: Given) -> None:
    folder = given.path(LANGUAGE[given.name])
    (folder / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="in two files; keep the weights once"):
        given.convert()


@every_model
def test_another_architecture_is_refused(given: Given) -> None:
    other = files.gptj_folder if given.name != "limber" else files.llama_folder
    other(given.path(LANGUAGE[given.name]))
    with pytest.raises(InputError, match=r"holds a '\w+' model; a '\w+' model is needed"):
        given.convert()


@every_model
def test_an_unreadable_configuration_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        given.convert()


@every_model
def test_a_missing_tokenizer_is_named(given: Given) -> None:
    for path in given.path(LANGUAGE[given.name]).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        given.convert()


@every_model
def test_a_broken_tokenizer_is_named(given: Given) -> None:
    (given.path(LANGUAGE[given.name]) / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        given.convert()


def letters(legacy: bool) -> LlamaTokenizer:
    """A Llama's tokenizer of single letters; a space is a letter too."""
    entries = ["<unk>", "<s>", "</s>", "▁", *sorted(set(minigpt4.PROMPT) - {" "})]
    return LlamaTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True])
@both("minigpt4")
def test_text_behind_an_image_is_read_as_if_it_stood_alone(given: Given, legacy: bool) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=24, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(given.path("llama"))
    letters(legacy).save_pretrained(given.path("llama"))
    processor = AutoProcessor.from_pretrained(given.convert())
    (ids,) = processor(images=[files.picture()], text=[minigpt4.PROMPT])["input_ids"]
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    before, after = (letters(True)(text)["input_ids"] for text in minigpt4.PROMPT.split("<image>"))
    assert ids == [*before, *[image] * files.QUERIES, *after]
    assert before[0] == after[0] == 3  # the space in front of every piece


@both("minigpt4")
def test_a_tokenizer_that_reads_otherwise_behind_an_image_is_refused(given: Given) -> None:
    words = files.tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    words.backend_tokenizer.model = models.BPE({"<unk>": 0, "▁": 3}, [], unk_token="<unk>")
    words.save_pretrained(given.path("llama"))
    with pytest.raises(InputError, match="otherwise behind an image than alone; take the tokenizer"):
        given.convert()
    assert not given.path("out").exists()


class Trap:
    """What unpickling must never run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was unpickled",))


@every_model
def test_arbitrary_objects_are_never_unpickled(given: Given) -> None:
    path = given.path(CHECKPOINT[given.name])
    path.write_bytes(pickle.dumps({"model": {PROJECTION[given.name]: Trap()}}))
    with pytest.raises(InputError, match="nothing else is unpickled"):
        given.convert()
    torch.save({"model": {}, "config": Trap()}, path)
    with pytest.raises(InputError, match="save its tensors alone"):
        given.convert()


@both("minigpt4")
def test_what_is_no_checkpoint_is_named(given: Given) -> None:
    path = given.path("checkpoint.pth")
    torch.save({"state": {}}, path)
    with pytest.raises(InputError, match="has no entry 'model'"):
        given.convert()
    torch.save({"model": {"epoch": 3}}, path)
    with pytest.raises(InputError, match="holds no table of tensors"):
        given.convert()
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        given.convert()


@both("minigpt4")
def test_broken_safetensors_are_named(given: Given) -> None:
    (given.path("llama") / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        given.convert()


@every_model
def test_a_folder_that_is_there_is_left_alone(given: Given) -> None:
    given.path("out").mkdir()
    with pytest.raises(InputError, match="is there already; name a new folder"):
        given.convert()
    assert list(given.path("out").iterdir()) == []


@both("limber")
def test_a_beit_that_lacks_weights_is_named(given: Given) -> None:
    file = given.path("beit") / "model.safetensors"
    state = dict(load_file(file))
    name = next(name for name in state if name.endswith("cls_token"))
    state.pop(name)
    save_file(state | {"odd.weight": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks embeddings\.cls_token; it holds the unexpected odd\.weight"):
        given.convert()


@both("limber")
def test_what_is_no_beit_is_named(given: Given) -> None:
    (given.path("beit") / "model.safetensors").unlink()
    with pytest.raises(InputError, match="beit cannot be loaded"):
        given.convert()
    files.llama_folder(given.path("beit"))
    with pytest.raises(InputError, match="holds a 'llama' model; a 'beit' model is needed"):
        given.convert()
    (given.path("beit") / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing; give a BEiT"):
        given.convert()


@both("limber")
def test_a_beit_without_its_image_processor_is_named(given: Given) -> None:
    (given.path("beit") / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be read"):
        given.convert()


@both("limber")
def test_beits_are_published_with_older_names(given: Given) -> None:
    names = load_file(given.path("beit") / "model.safetensors")
    assert "beit.encoder.layer.0.attention.attention.query.weight" in names
    assert "model.vision_tower.layers.0.attention.q_proj.weight" in weights(given.convert())


@both("limber")
def test_image_processors_as_published_in_2022_are_read(given: Given) -> None:
    side = files.GRID * files.PATCH
    config = {
        "do_center_crop": False, "do_normalize": True, "do_resize": True, "resample": 2, "size": side,
        "feature_extractor_type": "BeitFeatureExtractor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "crop_size": side,
    }  # fmt: skip
    (given.path("beit") / "preprocessor_config.json").write_text(json.dumps(config))
    processor = AutoProcessor.from_pretrained(given.convert())
    pixels = processor(images=[files.picture()], text=[limber.PROMPT], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, side, side)
    resized = files.picture().resize((side, side), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(pixels[0], wanted, rtol=0, atol=1e-5)


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


# Tables and their checks.


def source(**shapes: official.Shape) -> official.Source:
    return official.Source(Path("file.pth"), shapes, lambda name: torch.zeros(shapes[name]), unused="known")


def piece(name: str, *shape: int, made: Callable[..., Tensor] = torch.clone) -> official.Piece:
    return official.Piece(name, shape, [official.Part("it", name, shape)], made)


def test_exactly_the_expected_tensors_pass() -> None:
    official.verified([piece("a", 2)], {"it": source(a=(2,), known=(9,))})


def test_every_complaint_is_made_at_once() -> None:
    with pytest.raises(InputError) as caught:
        official.verified([piece("a", 2), piece("b", 3)], {"it": source(b=(4,), c=(1,))})
    assert str(caught.value) == (
        "file.pth is not the expected file: it lacks a; it holds the unexpected c; "
        "b has the shape [4], not [3]"
    )


def test_a_tensor_cannot_be_used_twice() -> None:
    with pytest.raises(ValueError, match="used twice"):
        official.verified([piece("a", 2), piece("a", 2)], {"it": source(a=(2,))})


def test_a_piece_of_another_shape_is_not_written(tmp_path: Path) -> None:
    wrong = piece("a", 2, made=lambda tensor: tensor[:1])
    with pytest.raises(ValueError, match=r"made with the shape \(1,\), not \(2,\)"):
        official.write_weights(tmp_path, [wrong], {"it": source(a=(2,))})


# Loading and the command line.


def test_registering_twice_does_nothing() -> None:
    kin.register()
    before = AutoModelForImageTextToText._model_mapping._extra_content.copy()
    kin.register()
    assert AutoModelForImageTextToText._model_mapping._extra_content == before
    assert AutoConfig.for_model("minigpt_v2").model_type == "minigpt_v2"
    assert AutoConfig.for_model("limber").model_type == "limber"


def test_importing_the_package_imports_no_model() -> None:
    code = "import sys, phasebench.models.kin; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llava"}', None])
def test_other_folders_register_nothing(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kin, "register", lambda: pytest.fail("registered"))
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    kin.register_for(tmp_path)


@both("limber")
def test_the_command_converts(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "limber", "--vision-model", str(given.path("beit")), "--language-model", str(given.path("gptj")),
        "--projection", str(given.path("proj.ckpt")), "--out", str(given.path("out")),
    ]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"--model limber={given.path('out')}" in said
    assert "'<image>A picture of'" in said
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"limber: {given.path('out')} is there already")


@pytest.mark.parametrize("name", ["minigpt4", "minigpt-v2"])
def test_the_command_names_the_file_at_fault(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.llama_folder(tmp_path / "llama")
    options = {"vit": "eva.pth", "language-model": "llama", "checkpoint": "c.pth", "out": "out"}
    if name == "minigpt4":
        options["qformer"] = "q.pth"
    arguments = [text for option, file in options.items() for text in (f"--{option}", str(tmp_path / file))]
    assert main([name, *arguments]) == 2
    assert capsys.readouterr().err == f"{name}: {tmp_path / 'eva.pth'}: no such file\n"


def test_the_command_asks_for_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["minigpt4"])
    said = capsys.readouterr().err
    assert "--vit, --qformer, --language-model, --checkpoint, --out" in said


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_folder_runs_whole(
    run: Run, pytester: pytest.Pytester, every: dict[str, Converted], name: str
) -> None:
    result = run("--snapshot-update", "--results", "results.json", model=f"tiny-{name}={every[name].folder}")
    assert result.ret == 0
    (found,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert found["selftest"]["unmeasured"] == {}
    assert found["selftest"]["attention_rows"] == found["selftest"]["layers"] == 2
