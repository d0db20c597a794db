"""Official files that can be converted: older releases, other formats, shards, precisions."""

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

from phasebench.models.converters import limber, minigpt4, minigpt_v2, official_files
from phasebench.models.converters import shared_parts as parts
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings
from tests.models.converters.official_models import (
    LANGUAGE,
    OfficialModel,
    for_every_model,
    for_model,
    weights,
)
from tests.support import official_files as files
from tests.support.versions import since


@for_every_model
def test_pickled_shards_give_the_same_folder(official: OfficialModel) -> None:
    expected = weights(official.convert("first"))
    files.save_pickled(official.path(LANGUAGE[official.name]))
    second = weights(official.convert("second"))
    assert second.keys() == expected.keys()
    assert all(torch.equal(second[name], expected[name]) for name in expected)


@for_model("minigpt4")
def test_buffers_of_older_releases_are_ignored(official: OfficialModel) -> None:
    files.save_pickled(
        official.path("llama"), **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}
    )
    official.resave(
        "checkpoint.pth", lambda state: state.update({"Qformer.bert.embeddings.position_ids": torch.ones(1)})
    )
    official.convert()


@for_model("limber")
def test_buffers_of_older_gptjs_are_ignored(official: OfficialModel) -> None:
    masks = {"transformer.h.0.attn.bias": torch.ones(1), "transformer.h.1.attn.masked_bias": torch.ones(1)}
    files.save_pickled(official.path("gptj"), **masks)
    official.convert()


@for_model("minigpt4")
def test_a_text_branch_in_the_qformer_file_is_ignored(official: OfficialModel) -> None:
    def add(state: dict[str, Any]) -> None:
        state["Qformer.bert.embeddings.word_embeddings.weight"] = torch.ones(1)
        state["Qformer.bert.encoder.layer.0.intermediate.dense.weight"] = torch.ones(1)
        state["Qformer.cls.predictions.bias"] = torch.ones(1)

    official.resave("qformer.pth", add)
    official.convert()


@for_model("minigpt4")
def test_each_tensor_keeps_the_precision_of_its_file(official: OfficialModel) -> None:
    official.resave(
        "vit.pth", lambda state: state.update({name: value.half() for name, value in state.items()})
    )
    second = weights(official.convert())
    assert second["vision_model.encoder.layers.0.self_attn.qkv.bias"].dtype == torch.float16
    assert second["qformer.layernorm.weight"].dtype == torch.float32


@for_model("minigpt4")
def test_the_old_format_of_torch_save_is_read(official: OfficialModel) -> None:
    state = torch.load(official.path("vit.pth"), weights_only=True)
    torch.save(state, official.path("vit.pth"), _use_new_zipfile_serialization=False)
    official.convert()


@for_model("minigpt_v2")
def test_both_spellings_of_low_rank_weights_are_read(official: OfficialModel) -> None:
    expected = weights(official.convert("first"))
    official.resave("checkpoint.pth", lambda state: rename(state, "lora_A.weight", "lora_A.default.weight"))
    official.resave("checkpoint.pth", lambda state: rename(state, "lora_B.weight", "lora_B.default.weight"))
    second = weights(official.convert("second"))
    assert all(torch.equal(second[name], expected[name]) for name in expected)


def rename(state: dict[str, Any], old: str, new: str) -> None:
    for name in [name for name in state if name.endswith(old)]:
        state[name.removesuffix(old) + new] = state.pop(name)


def test_merging_is_scaled_by_alpha_over_rank() -> None:
    base, down, up = torch.zeros(3, 3, dtype=torch.float16), torch.ones(2, 3), torch.ones(3, 2)
    merged = minigpt_v2.with_low_rank_update(base, down, up)
    assert merged.dtype == torch.float16
    assert merged.tolist() == [[16.0] * 3] * 3  # 16 / 2 times a product of 2


def test_positions_of_the_same_number_are_unchanged() -> None:
    table = files.draw(1, 17, 8)
    assert parts.resized_positions(table, 17) is table
    assert parts.resized_positions(table, 65).shape == (1, 65, 8)
    assert torch.equal(parts.resized_positions(table, 65)[:, 0], table[:, 0])


def test_a_table_that_is_long_enough_is_unchanged() -> None:
    table = files.draw(5, 2)
    assert parts.extended_vocabulary(table, 5) is table
    assert torch.allclose(parts.extended_vocabulary(table, 7)[5:], table.mean(0).expand(2, 2))


@for_every_model
def test_large_models_are_written_in_shards(official: OfficialModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights(official.convert("whole"))
    monkeypatch.setattr(official_files, "SHARD", 4000)
    folder = official.convert("sharded")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, framework="pt") as opened:
            assert torch.equal(opened.get_tensor(name), expected[name])
    load(ModelSpec("mine", folder), official.folder, Settings(device="cpu"))


def letters(legacy: bool) -> LlamaTokenizer:
    """A Llama's tokenizer of single letters; a space is a letter too."""
    entries = ["<unk>", "<s>", "</s>", "▁", *sorted(set(minigpt4.PROMPT) - {" "})]
    return LlamaTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True])
@for_model("minigpt4")
def test_text_after_an_image_is_split_as_if_it_stood_alone(official: OfficialModel, legacy: bool) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=24, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(official.path("llama"))
    letters(legacy).save_pretrained(official.path("llama"))
    processor = AutoProcessor.from_pretrained(official.convert())
    (ids,) = processor(images=[files.picture()], text=[minigpt4.PROMPT])["input_ids"]
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    before, after = (letters(True)(text)["input_ids"] for text in minigpt4.PROMPT.split("<image>"))
    assert ids == [*before, *[image] * files.QUERIES, *after]
    assert before[0] == after[0] == 3  # the space in front of every piece


@since("5.17", "these names of BEiT")
@for_model("limber")
def test_beits_are_published_with_older_names(official: OfficialModel) -> None:
    names = load_file(official.path("beit") / "model.safetensors")
    assert "beit.encoder.layer.0.attention.attention.query.weight" in names
    assert "model.vision_tower.layers.0.attention.q_proj.weight" in weights(official.convert())


@for_model("limber")
def test_image_processors_as_published_in_2022_are_read(official: OfficialModel) -> None:
    side = files.GRID * files.PATCH
    config = {
        "do_center_crop": False, "do_normalize": True, "do_resize": True, "resample": 2, "size": side,
        "feature_extractor_type": "BeitFeatureExtractor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "crop_size": side,
    }  # fmt: skip
    (official.path("beit") / "preprocessor_config.json").write_text(json.dumps(config))
    processor = AutoProcessor.from_pretrained(official.convert())
    pixels = processor(images=[files.picture()], text=[limber.PROMPT], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, side, side)
    resized = files.picture().resize((side, side), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(pixels[0], expected, rtol=0, atol=1e-5)
