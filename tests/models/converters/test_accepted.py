"""What an official file may be: older releases, other formats, shards, precisions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
)

from phasebench.models.converters import folder_parts as parts
from phasebench.models.converters import limber, minigpt4, minigpt_v2, official
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from tests.models.converters.given import LANGUAGE, Given, every_model, only, weights
from tests.support import official_files as files


@every_model
def test_pickled_shards_give_the_same_folder(given: Given) -> None:
    wanted = weights(given.convert("first"))
    files.as_bin(given.path(LANGUAGE[given.name]))
    found = weights(given.convert("second"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@only("minigpt4")
def test_buffers_of_older_releases_are_passed_over(given: Given) -> None:
    files.as_bin(given.path("llama"), **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)})
    given.resave(
        "checkpoint.pth", lambda state: state.update({"Qformer.bert.embeddings.position_ids": torch.ones(1)})
    )
    given.convert()


@only("limber")
def test_buffers_of_older_gptjs_are_passed_over(given: Given) -> None:
    masks = {"transformer.h.0.attn.bias": torch.ones(1), "transformer.h.1.attn.masked_bias": torch.ones(1)}
    files.as_bin(given.path("gptj"), **masks)
    given.convert()


@only("minigpt4")
def test_a_text_branch_in_the_qformer_file_is_passed_over(given: Given) -> None:
    def add(state: dict[str, Any]) -> None:
        state["Qformer.bert.embeddings.word_embeddings.weight"] = torch.ones(1)
        state["Qformer.bert.encoder.layer.0.intermediate.dense.weight"] = torch.ones(1)
        state["Qformer.cls.predictions.bias"] = torch.ones(1)

    given.resave("qformer.pth", add)
    given.convert()


@only("minigpt4")
def test_each_tensor_keeps_the_precision_of_its_file(given: Given) -> None:
    given.resave("vit.pth", lambda state: state.update({name: value.half() for name, value in state.items()}))
    found = weights(given.convert())
    assert found["vision_model.encoder.layers.0.self_attn.qkv.bias"].dtype == torch.float16
    assert found["qformer.layernorm.weight"].dtype == torch.float32


@only("minigpt4")
def test_the_old_format_of_torch_save_is_read(given: Given) -> None:
    state = torch.load(given.path("vit.pth"), weights_only=True)
    torch.save(state, given.path("vit.pth"), _use_new_zipfile_serialization=False)
    given.convert()


@only("minigpt_v2")
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


def letters(legacy: bool) -> LlamaTokenizer:
    """A Llama's tokenizer of single letters; a space is a letter too."""
    entries = ["<unk>", "<s>", "</s>", "▁", *sorted(set(minigpt4.PROMPT) - {" "})]
    return LlamaTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True])
@only("minigpt4")
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


@only("limber")
def test_beits_are_published_with_older_names(given: Given) -> None:
    names = load_file(given.path("beit") / "model.safetensors")
    assert "beit.encoder.layer.0.attention.attention.query.weight" in names
    assert "model.vision_tower.layers.0.attention.q_proj.weight" in weights(given.convert())


@only("limber")
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
