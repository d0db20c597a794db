"""Adapters: measured with their base, named beside whole weights, refused where they do not fit."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from phasebench.errors import InputError
from phasebench.models import adapters, hub
from phasebench.models.checks import check_folder
from phasebench.models.hub import Hub
from phasebench.models.loading import LoadedModel, gradient_image, load
from phasebench.models.named_models import ModelSpec, known_models
from phasebench.models.resolution import resolve_models
from phasebench.models.sources import check_available, configuration, fetch_files
from phasebench.settings import Settings

KNOWN = {spec.name: spec for spec in known_models()}
CPU = Settings(device="cpu")
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": r".*language_model.*\.q_proj"}


def write_adapter(folder: Path, base: object = None, *, layers: int = 6, prefix: str = "model.") -> Path:
    """A low-rank adapter of tiny-llava's language model, as peft saves it."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**LORA, "base_model_name_or_path": base}))
    torch.manual_seed(0)
    weights = {}
    for layer in range(layers):
        at = f"base_model.model.{prefix}language_model.layers.{layer}.self_attn.q_proj."
        weights[f"{at}lora_A.weight"] = torch.randn(4, 64)
        weights[f"{at}lora_B.weight"] = torch.randn(64, 4)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def resolved(argument: object) -> ModelSpec:
    (spec,) = resolve_models([str(argument)], KNOWN)
    return spec


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json", "non_lora_trainables.bin",
        "mm_projector.bin", "mm_projector.safetensors", "pytorch_lora_weights.safetensors", "vision_tower.pt",
    ],
)  # fmt: skip
def test_what_may_change_whole_weights_and_is_not_read_is_refused(folder: Path, name: str) -> None:
    if name.endswith(".safetensors"):
        save_file({"x": torch.zeros(1)}, folder / name)
    else:
        (folder / name).write_text("{}")
    with pytest.raises(InputError, match=rf"/{name} .*; merge it into the weights, or remove it"):
        check_folder(folder, Settings())


def test_an_adapters_weights_under_another_name_are_refused(folder: Path) -> None:
    save_file({"q_proj.lora_A.weight": torch.zeros(1)}, folder / "best.safetensors")
    with pytest.raises(InputError, match=r"best\.safetensors may belong to the model, and nothing reads it"):
        check_folder(folder, Settings())


def test_other_weight_files_that_are_not_read_are_noted(folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder / "consolidated.safetensors")
    (folder / "optimizer.pt").touch()
    loaded = load(ModelSpec("mine", folder), folder, CPU)
    assert loaded.notes == ("weight files that are not read: consolidated.safetensors",)


def test_an_adapter_is_found_with_its_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (folder, "tuned")
    for base in (str(folder), "mine", "../mine"):
        adapter = write_adapter(folder.parent / "tuned", base)
        spec = resolved(adapter)
        assert spec.adapter == adapter
        assert isinstance(spec.source, Path)
        assert (spec.source.resolve(), spec.name) == expected
    monkeypatch.chdir(folder.parent)
    assert resolved("mine+tuned") == ModelSpec("tuned", Path("mine"), adapter=Path("tuned"))
    assert resolved("new=mine+tuned").name == "new"


def test_a_known_base_gives_its_prompt_and_its_commit(tmp_path: Path) -> None:
    llava = KNOWN["llava-7b"]
    assert isinstance(llava.source, Hub)
    adapter = write_adapter(tmp_path / "tuned", llava.source.repository)
    for argument in (adapter, f"llava-7b+{adapter}"):
        spec = resolved(argument)
        assert (spec.source, spec.prompt, spec.visual) == (llava.source, llava.prompt, 576)
    tiny = resolved(f"tiny-llava+{adapter}")
    assert (tiny.name, tiny.prompt) == ("tuned", KNOWN["tiny-llava"].prompt)
    on_hub = resolved("tiny-llava+owner/tuned@v1")
    assert (on_hub.name, on_hub.adapter) == ("tuned", Hub("owner/tuned", "v1"))


@pytest.mark.parametrize(
    ("base", "reason"),
    [(None, "does not name its base"), ("/gone/base", "the base of this adapter, /gone/base, is not here")],
)
def test_an_adapter_without_its_base_is_refused(tmp_path: Path, base: str | None, reason: str) -> None:
    adapter = write_adapter(tmp_path / "tuned", base)
    with pytest.raises(InputError, match=rf"{reason}; give BASE\+{adapter}"):
        resolved(adapter)


def test_what_follows_a_base_is_an_adapter(folder: Path) -> None:
    with pytest.raises(InputError, match=r"mine is no adapter: it has no adapter_config\.json, or whole"):
        resolved(f"tiny-llava+{folder}")
    with pytest.raises(InputError, match="no such folder as nope"):
        resolved("tiny-llava+nope")
    adapter = write_adapter(folder.parent / "tuned", str(folder))
    with pytest.raises(InputError, match=r"the base .*tuned is an adapter itself"):
        resolved(f"{adapter}+{adapter}")


def test_an_adapter_without_peft_names_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    spec = resolved(write_adapter(folder.parent / "tuned", str(folder)))
    with pytest.raises(
        InputError, match=r"tuned is an adapter, which needs peft: pip install 'phasebench\[p"
    ):
        check_available(spec, Settings())


def test_an_incomplete_adapter_is_refused_before_its_base_is_loaded(folder: Path) -> None:
    adapter = write_adapter(folder.parent / "tuned", str(folder))
    spec = resolved(adapter)
    weights = adapter / "adapter_model.safetensors"
    (adapter / "non_lora_trainables.bin").touch()
    with pytest.raises(InputError, match=r"non_lora_trainables\.bin may belong to the model"):
        check_available(spec, Settings())
    (adapter / "non_lora_trainables.bin").unlink()
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors is truncated"):
        check_available(spec, Settings())
    weights.unlink()
    with pytest.raises(InputError, match=r"tuned has adapter_config\.json, but no adapter_model"):
        check_available(spec, Settings())
    (adapter / "adapter_model.bin").write_text("x")
    with pytest.raises(InputError, match=r"adapter_model\.bin is pickled and is not read"):
        check_available(spec, Settings())


def test_an_adapter_on_the_hub_is_fetched_with_its_base(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(folder.parent / "ab12", "owner/base")
    monkeypatch.setattr(adapters, "find_spec", lambda _: True)
    places = {"owner/tuned": adapter, "owner/base": folder}
    monkeypatch.setattr(hub, "_snapshot", lambda asked, *_: places[asked.repository])
    spec = resolved("owner/tuned")
    check_available(spec, Settings())
    assert configuration(spec, folder, Settings()) == folder
    whole, *found = fetch_files(spec, folder, Settings())
    assert found == [folder, adapter]
    assert whole == ModelSpec("tuned", Hub("owner/base"), adapter=Hub("owner/tuned"))


def logits(loaded: LoadedModel) -> Tensor:
    inputs = loaded.inputs([gradient_image()])
    with torch.no_grad():
        states: Tensor = loaded.model(**inputs).logits
    return states


def merged_by_hand(folder: Path, adapter: Path) -> Path:
    """A copy of the base whose weights have the adapter's products added, alpha / r * B A."""
    merged = Path(shutil.copytree(folder, folder.parent / "merged"))
    weights = load_file(folder / "model.safetensors")
    lora = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in lora if "lora_A" in name]:
        layer = name.split(".layers.")[1].removesuffix(".lora_A.weight")
        (key,) = (key for key in weights if "language_model" in key and f".layers.{layer}.weight" in key)
        weights[key] = weights[key] + 2 * lora[name.replace("lora_A", "lora_B")] @ lora[name]
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    return merged


def test_an_adapter_computes_what_the_merged_model_does(folder: Path) -> None:
    pytest.importorskip("peft")
    adapter = write_adapter(folder.parent / "tuned", str(folder))
    adapted = load(resolved(adapter), folder, CPU)
    merged = load(ModelSpec("m", merged_by_hand(folder, adapter)), folder, CPU)
    base = load(ModelSpec("b", folder), folder, CPU)
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-4)
    assert not torch.allclose(logits(adapted), logits(base), atol=1e-2)
    assert adapted.checkpoint not in (base.checkpoint, merged.checkpoint)
    assert [name for name, _ in adapted.model.named_parameters()] == [
        name for name, _ in base.model.named_parameters()
    ]


@pytest.mark.parametrize(("layers", "prefix"), [(5, "model."), (6, "other."), (7, "model.")])
def test_an_adapter_of_another_base_is_refused(folder: Path, layers: int, prefix: str) -> None:
    pytest.importorskip("peft")
    adapter = write_adapter(folder.parent / "tuned", str(folder), layers=layers, prefix=prefix)
    with pytest.raises(InputError, match=r"tuned does not fit its base llava: base_model\.model"):
        load(resolved(adapter), folder, CPU)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target_modules": ["no_such"]}, "cannot be merged into its base: Target modules"),
        ({"r": 3}, "cannot be merged into its base: "),
        ({"peft_type": "NONE_SUCH"}, "cannot be merged into its base: "),
        (
            {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "task_type": "CAUSAL_LM"},
            "PROMPT_TUNING cannot be merged into weights",
        ),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    folder: Path, change: dict[str, Any], reason: str
) -> None:
    pytest.importorskip("peft")
    adapter = write_adapter(folder.parent / "tuned", str(folder))
    lora = LORA if change.get("peft_type") != "PROMPT_TUNING" else {}
    config = {**lora, "base_model_name_or_path": str(folder), **change}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=reason):
        load(resolved(adapter), folder, CPU)


def test_an_adapter_from_before_the_models_layers_moved_is_applied(folder: Path) -> None:
    """Until transformers 4.51 a decoder's layers were language_model.model.layers."""
    pytest.importorskip("peft")
    adapter = write_adapter(folder.parent / "tuned", str(folder))
    expected = logits(load(resolved(adapter), folder, CPU))
    weights = load_file(adapter / "adapter_model.safetensors")
    old = {key.replace("model.language_model.", "language_model.model."): weights[key] for key in weights}
    save_file(old, adapter / "adapter_model.safetensors")
    assert torch.equal(logits(load(resolved(adapter), folder, CPU)), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LoraConfig", {"use_dora": True}),
        ("LoraConfig", {"use_rslora": True, "lora_alpha": 3}),
        ("LoraConfig", {"modules_to_save": ["multi_modal_projector"]}),
        ("LoraConfig", {"bias": "lora_only"}),
        ("IA3Config", {"feedforward_modules": []}),
        ("LoHaConfig", {}),
    ],
)
def test_an_adapter_that_peft_saved_computes_what_peft_does(
    folder: Path, kind: str, options: dict[str, Any]
) -> None:
    peft = pytest.importorskip("peft")
    base = load(ModelSpec("b", folder), folder, CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        config = getattr(peft, kind)(target_modules=["q_proj", "v_proj"], **options)
        adapted = peft.get_peft_model(base.model, config)
        for parameter in (p for p in adapted.parameters() if p.requires_grad):
            torch.nn.init.normal_(parameter.data, std=0.1)
        adapted.save_pretrained(folder.parent / "tuned")
    expected = logits(replace(base, model=adapted.eval()))
    loaded = load(resolved(f"{folder}+{folder.parent / 'tuned'}"), folder, CPU)
    assert torch.allclose(logits(loaded), expected, atol=1e-4)
