"""Irregular checkpoints: badly merged, trained on another machine, with a mixture of experts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import AttentionInterface

from phasebench.datasets.coco import read_coco
from phasebench.errors import InputError
from phasebench.measurement.measure import measure
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import find_layers, find_projector, sequence_model
from phasebench.models.checks import check_folder, weight_files
from phasebench.models.identity import checkpoint_digest
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings
from tests.support import zoo
from tests.support.checkpoints import change_weights
from tests.support.pictures import write_pictures


def identity(folder: Path) -> str:
    return checkpoint_digest(folder, weight_files(folder, Settings()))


@pytest.mark.parametrize("places", [[1], {}, None])
def test_an_index_without_places_is_named(folder: Path, places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"index\.json has no weight_map"):
        check_folder(folder, Settings())


def test_missing_shards_are_named(folder: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model.safetensors").rename(folder / shards["a"])
    with pytest.raises(InputError, match=r"index\.json lists shards that are missing: model-00002-of-00002"):
        check_folder(folder, Settings())


def test_missing_weights_are_named_not_invented(folder: Path) -> None:
    change_weights(folder, lambda tensors, key: tensors.__delitem__(key))
    with pytest.raises(InputError, match=r"lacks weights .*projector\.linear_2\.weight"):
        load(ModelSpec("mine", folder), folder, Settings())


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change_weights(folder, lambda tensors, key: tensors.update({key: torch.zeros(3, 3)}))
    message = r"in other shapes: .*linear_2\.weight \[3, 3\] for \[64, 64\]"
    with pytest.raises(InputError, match=message):
        load(ModelSpec("mine", folder), folder, Settings())


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors is truncated or not a safetensors file.*again"):
        check_folder(folder, Settings())


def test_an_adapters_weights_that_nothing_applies_are_refused(folder: Path) -> None:
    """After a bad merge the base's own weights are complete, and would be measured as the fine-tune."""
    change_weights(folder, lambda tensors, _: tensors.update({"q_proj.lora_A.weight": torch.zeros(2, 4)}))
    with pytest.raises(InputError, match=r"that nothing applies \(q_proj\.lora_A\.weight\); merge"):
        load(ModelSpec("mine", folder), folder, Settings())


def test_unused_weights_are_named(folder: Path, tmp_path: Path) -> None:
    """For example under a configuration with too few layers: the rest is measured, the unused are named."""
    change_weights(
        folder, lambda tensors, _: tensors.update({"model.language_model.layers.9.x": torch.zeros(2)})
    )
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu"))
    samples = read_coco(write_pictures(tmp_path / "pics", 2))
    measurement = measure(loaded, "pics", samples, Settings(), lambda _: None)
    note = "1 weights of the checkpoint are not used by the model: model.language_model.layers.9.x"
    assert measurement.notes == [note]


def test_an_index_beside_the_whole_file_is_ignored(folder: Path) -> None:
    """It may be left over from before a merge; transformers reads the whole file too."""
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load(ModelSpec("mine", folder), folder, Settings(device="cpu")).checkpoint


def test_the_identity_follows_weights_and_configuration(folder: Path) -> None:
    before = identity(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "x": 1}))
    assert identity(folder) != before


@pytest.mark.parametrize("name", ["modeling_own.py", "adapter_config.json"])
def test_the_identity_follows_files_that_change_what_the_weights_compute(folder: Path, name: str) -> None:
    identities = {identity(folder)}
    for text in ("one", "two"):
        (folder / name).write_text(text)
        identities.add(identity(folder))
    assert len(identities) == 3


@pytest.mark.parametrize(
    ("configured", "files"),
    [
        (None, ["pytorch_model.bin"]),
        (None, ["deep/1.safetensors", "deep/2.safetensors"]),
        ("other.safetensors", ["other.safetensors"]),
        ("other.safetensors.index.json", ["deep/1.safetensors", "deep/2.safetensors"]),
    ],
)
def test_the_identity_is_of_the_weights_that_are_read(
    folder: Path, configured: str | None, files: list[str]
) -> None:
    """Other files may lie beside them, for example in another layout."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file({"x": torch.zeros(2)}, folder / "consolidated.safetensors")
    if configured:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": configured}))

    def loaded(scale: float) -> LoadedModel:
        _save({key: scale * value for key, value in weights.items()}, folder, files, configured)
        return load(ModelSpec("mine", folder), folder, Settings(device="cpu", allow_pickle=True))

    first, second = loaded(1.0), loaded(1.3)
    name, parameter = next(iter(first.model.named_parameters()))
    assert torch.allclose(dict(second.model.named_parameters())[name], 1.3 * parameter)
    assert first.checkpoint != second.checkpoint
    save_file({"x": torch.ones(2)}, folder / "consolidated.safetensors")
    assert loaded(1.3).checkpoint == second.checkpoint


def _save(weights: dict[str, Tensor], folder: Path, files: list[str], index_file: str | None) -> None:
    """Save weights in these files, with an index if there are several."""
    (folder / "deep").mkdir(exist_ok=True)
    placed = {key: files[number % len(files)] for number, key in enumerate(weights)}
    for file in files:
        part = {key: weights[key] for key in weights if placed[key] == file}
        (folder / file).unlink(missing_ok=True)  # a model that was read may still be mapped to it
        if file.endswith(".bin"):
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, {"format": "pt"})
    if len(files) > 1:
        index = index_file or "model.safetensors.index.json"
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": placed}))


@pytest.mark.parametrize("where", [(), ("text_config",)])
def test_a_trainers_attention_implementation_is_ignored(folder: Path, where: tuple[str, ...]) -> None:
    """``flash_attention_2`` in a configuration comes from the training machine, and cannot be watched."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    part = config
    for name in where:
        part = part[name]
    part["_attn_implementation"] = "flash_attention_2"
    path.write_text(json.dumps(config))
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu"))
    decoder: Any = sequence_model(loaded.model)
    assert decoder.config._attn_implementation == "sdpa"


def test_an_attention_that_cannot_be_watched_is_refused(folder: Path) -> None:
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu"))
    AttentionInterface.register("mine", AttentionInterface()["sdpa"])
    loaded.model.set_attn_implementation("mine")
    with pytest.raises(InputError, match=r"its attention runs as 'mine'.*set_attn_implementation\('sdpa'\)"):
        dissect(loaded.model, loaded.inputs([Image.new("RGB", (64, 64))]))


def test_a_prompt_with_a_bos_token_gets_no_second_one(folder: Path) -> None:
    """Chat templates have a BOS token; a tokenizer that adds one to every text would add another."""
    loaded = load(ModelSpec("mine", folder, "<s> <image> user :"), folder, Settings(device="cpu"))
    begin = loaded.processor.tokenizer.bos_token_id
    backend = loaded.processor.tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    images = [Image.new("RGB", (64, 64))]
    assert loaded.inputs(images)["input_ids"][0].tolist().count(begin) == 1
    loaded.prompt = "<image> user :"
    assert loaded.inputs(images)["input_ids"][0, 0] == begin


def test_the_experts_of_a_mixture_are_no_blocks() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(8))

    decoder = torch.nn.Module()
    decoder.layers = torch.nn.ModuleList(Block() for _ in range(4))
    assert find_layers(decoder) == list(decoder.layers)


class AdaptedLinear(nn.Module):
    """A linear layer wrapped as peft does: its own output plus a low-rank one."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)

    @property
    def bias(self) -> Any:
        return self.base_layer.bias

    def forward(self, states: Tensor) -> Tensor:
        update: Tensor = self.lora_B(self.lora_A(states))
        return update + self.base_layer(states)


def test_adapted_output_projections_give_the_merged_models_norms(folder: Path) -> None:
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu"))
    inputs = loaded.inputs([Image.effect_noise((64, 64), 60).convert("RGB")])
    merged = []
    for layer in find_layers(sequence_model(loaded.model)):
        attention: Any = layer.self_attn
        base, attention.o_proj = attention.o_proj, AdaptedLinear(attention.o_proj)
        merged.append(base.weight + attention.o_proj.lora_B.weight @ attention.o_proj.lora_A.weight)
    anatomy = dissect(loaded.model, inputs)
    assert self_test(anatomy, inputs).unmeasured == {}
    (wrapped,) = probed_pass(anatomy, inputs)
    for layer, weight in zip(find_layers(sequence_model(loaded.model)), merged, strict=True):
        attention = layer.self_attn
        attention.o_proj = attention.o_proj.base_layer
        attention.o_proj.weight.data = weight.detach()
    (plain,) = probed_pass(dissect(loaded.model, inputs), inputs)
    assert wrapped.norms == pytest.approx(plain.norms, rel=1e-4)


def test_projectors_of_deeper_layers_belong_to_the_projector() -> None:
    """Qwen3-VL's language model adds their outputs to the states of its first blocks."""
    model = zoo.specimen("qwen3_vl").model
    names = [name for name, _ in model.named_modules() if "merger" in name.rpartition(".")[2]]
    assert any(name.endswith("deepstack_merger_list") for name in names)
    untrained = set(find_projector(model).parameters())
    assert untrained == {p for name, p in model.named_parameters() if "merger" in name}
