"""LLaVA's own layouts: converted, they compute what transformers' model of the same weights computes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPImageProcessorPil

from phasebench.__main__ import main
from phasebench.errors import InputError
from phasebench.measurement.passes import Row, probed_pass
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.models.checks import check_folder
from phasebench.models.converters import llava
from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.models.resolution import resolve_models
from phasebench.models.sources import check_available
from phasebench.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

State = dict[str, Tensor]
OFFICIAL = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("vision_tower.", "vision_model."),
)
IMAGE = 4
RANK, ALPHA = 3, 6
PROMPT = "<image> Describe the image"


def official_name(name: str) -> str:
    for written, official in OFFICIAL:
        if name.startswith(written):
            return name.replace(written, official, 1)
    raise ValueError(name)


class Files:
    """Tiny LLaVA, CLIP and Llama folders as their authors' programs write them, with the weights of a tiny
    model of transformers."""

    def __init__(self, tiny: Path, folder: Path) -> None:
        self.checkpoint, self.clip, self.llama = (folder / name for name in ("llava", "clip", "llama"))
        self.out = folder / "out"
        for path in (self.checkpoint, self.clip, self.llama):
            path.mkdir()
        config = json.loads((tiny / "config.json").read_text())
        tensors = {
            official_name(name): value for name, value in load_file(tiny / "model.safetensors").items()
        }
        self.vision = {name: value for name, value in tensors.items() if name.startswith("vision_model.")}
        self.projector = {name: value for name, value in tensors.items() if "mm_projector" in name}
        self.language = {
            name: tensors[name] for name in tensors.keys() - self.vision.keys() - self.projector.keys()
        }
        self.config = {
            **config["text_config"], "model_type": "llava_llama", "architectures": ["LlavaLlamaForCausalLM"],
            "mm_vision_tower": "openai/clip-tiny", "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -1,
            "mm_vision_select_feature": "patch", "mm_hidden_size": 32, "tune_mm_mlp_adapter": False,
        }  # fmt: skip
        self.write_config()
        text = {**config["text_config"], "architectures": ["LlamaForCausalLM"]}
        (self.llama / "config.json").write_text(json.dumps(text))
        clip = {"model_type": "clip", "vision_config": config["vision_config"], "text_config": {}}
        (self.clip / "config.json").write_text(json.dumps(clip))
        CLIPImageProcessorPil(size={"shortest_edge": 96}, crop_size=96).save_pretrained(self.clip)
        text_half = {"logit_scale": torch.ones(()), "text_model.final_layer_norm.weight": torch.ones(3)}
        positions = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
        save_file({**self.vision, **text_half, **positions}, self.clip / "model.safetensors")
        for path in (self.checkpoint, self.llama):
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(tiny / file, path)

    def write_config(self, **changes: Any) -> None:
        self.config |= changes
        (self.checkpoint / "config.json").write_text(json.dumps(self.config))

    def write_whole(self, more: State | None = None, *, pickled: bool = False) -> None:
        """All weights in one file, or in two pickled ones."""
        more = more or {}
        tensors = {**self.language, **self.projector, **more}
        if not pickled:
            save_file(tensors, self.checkpoint / "model-00001-of-00001.safetensors")
            return
        for number, part in enumerate((self.language, {**self.projector, **more}), 1):
            torch.save(part, self.checkpoint / f"pytorch_model-0000{number}-of-00002.bin")

    def convert(self, **options: Any) -> Path:
        return llava.convert(self.checkpoint, self.clip, self.out, **options)


@pytest.fixture
def tiny(cache: Path) -> Path:
    return make_tiny_model("tiny-llava", cache)


@pytest.fixture
def files(tiny: Path, tmp_path: Path) -> Files:
    return Files(tiny, tmp_path)


def rows(folder: Path, pictures: list[Image.Image]) -> list[Row]:
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu", prompt=PROMPT))
    inputs = loaded.inputs(pictures[:2])
    return probed_pass(dissect(loaded.model, inputs), inputs)


def assert_same(folder: Path, tiny: Path, pictures: list[Image.Image]) -> None:
    for row, other in zip(rows(folder, pictures), rows(tiny, pictures), strict=True):
        assert np.array_equal(row.tokens, other.tokens)
        for name, curve in row.curves.items():
            assert np.allclose(curve, other.curves[name], equal_nan=True, rtol=1e-5), name


@pytest.mark.parametrize("pickled", [False, True])
def test_whole_weights_compute_the_same(
    files: Files, tiny: Path, pictures: list[Image.Image], pickled: bool
) -> None:
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    files.write_whole(inverse, pickled=pickled)
    assert_same(files.convert(), tiny, pictures)


def test_a_vision_encoder_among_the_weights_is_taken(
    files: Files, tiny: Path, pictures: list[Image.Image]
) -> None:
    tower = {f"{llava.TOWER}{name}": value for name, value in files.vision.items()}
    files.write_whole(tower)
    save_file({name: 0 * value for name, value in files.vision.items()}, files.clip / "model.safetensors")
    assert_same(files.convert(), tiny, pictures)


def test_a_projector_beside_a_language_model(files: Files, tiny: Path, pictures: list[Image.Image]) -> None:
    torch.save(files.projector, files.checkpoint / "mm_projector.bin")
    save_file(files.language, files.llama / "model.safetensors")
    assert_same(files.convert(language_model=files.llama), tiny, pictures)


def test_low_rank_weights_are_merged(files: Files, tiny: Path, pictures: list[Image.Image]) -> None:
    """The base is the tiny model's weights less the update."""
    trained = {f"base_model.model.{name}": value for name, value in files.projector.items()}
    torch.save(trained, files.checkpoint / "non_lora_trainables.bin")
    adapter: State = {}
    for name in [name for name in files.language if name.endswith(("q_proj.weight", "down_proj.weight"))]:
        up, down = (
            torch.randn(files.language[name].shape[0], RANK),
            torch.randn(RANK, files.language[name].shape[1]),
        )
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        adapter |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        files.language[name] = files.language[name] - ALPHA / RANK * up @ down
    save_file(adapter, files.checkpoint / "adapter_model.safetensors")
    (files.checkpoint / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))
    save_file(files.language, files.llama / "model.safetensors")
    folder = files.convert(language_model=files.llama)
    for row, other in zip(rows(folder, pictures), rows(tiny, pictures), strict=True):
        assert np.allclose(row.curves["inter"], other.curves["inter"], atol=1e-3)
        assert np.allclose(row.curves["total"], other.curves["total"], rtol=1e-2, equal_nan=True)


def test_low_rank_weights_of_several_scales_are_refused(files: Files) -> None:
    torch.save(files.projector, files.checkpoint / "non_lora_trainables.bin")
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    adapter = {f"{stem}.lora_A.weight": torch.ones(2, 64), f"{stem}.lora_B.weight": torch.ones(64, 2)}
    save_file(adapter, files.checkpoint / "adapter_model.safetensors")
    config = {"r": 2, "lora_alpha": 4, "alpha_pattern": {"q_proj": 8}}
    (files.checkpoint / "adapter_config.json").write_text(json.dumps(config))
    save_file(files.language, files.llama / "model.safetensors")
    with pytest.raises(InputError, match="alpha_pattern is not read"):
        files.convert(language_model=files.llama)


def test_a_projector_of_one_layer(files: Files, pictures: list[Image.Image]) -> None:
    files.write_config(mm_projector_type="linear")
    weight, bias = torch.randn(64, 32), torch.randn(64)
    files.projector = {"model.mm_projector.weight": weight, "model.mm_projector.bias": bias}
    files.write_whole()
    folder = files.convert()
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu", prompt=PROMPT))
    states = torch.randn(5, 32)
    projected = loaded.model.model.multi_modal_projector(states)
    assert torch.allclose(projected, torch.nn.functional.linear(states, weight, bias), atol=1e-5)


def test_the_prompt_is_llavas(files: Files) -> None:
    files.write_whole()
    folder = files.convert()
    loaded = load(ModelSpec("mine", folder), folder, Settings(device="cpu"))
    assert loaded.prompt == llava.PROMPT


def test_marks_around_the_image_are_in_the_prompt(files: Files) -> None:
    files.write_config(mm_use_im_start_end=True)
    files.write_whole()
    folder = files.convert()
    assert "<im_start><image><im_end>" in (folder / "chat_template.jinja").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava_mpt"}, "a LLaVA around 'llava_mpt'; only Llamas are converted"),
        (
            {"mm_projector_type": "mlp3x_gelu"},
            "mm_projector_type is 'mlp3x_gelu'; known are linear, mlp2x_gelu",
        ),
        ({"mm_patch_merge_type": "spatial_unpad"}, "is of LLaVA 1.6, which takes pictures in tiles"),
        (
            {"mm_vision_select_feature": "cls"},
            "mm_vision_select_feature is 'cls'; known are patch, cls_patch",
        ),
    ],
)
def test_other_variants_are_refused_before_weights_are_read(
    files: Files, changes: dict[str, Any], message: str
) -> None:
    files.write_config(**changes)
    with pytest.raises(InputError, match=message):
        files.convert()


def test_what_is_missing_is_named(files: Files) -> None:
    torch.save(files.projector, files.checkpoint / "mm_projector.bin")
    with pytest.raises(InputError, match=r"mm_projector\.bin but no language model; name it with --lang"):
        files.convert()
    (files.clip / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json is missing; give openai/clip-tiny in"):
        files.convert()


def test_a_tensor_too_many_or_too_few_is_named(files: Files) -> None:
    del files.projector["model.mm_projector.2.bias"]
    files.write_whole({"model.image_newline": torch.ones(64)})
    with pytest.raises(
        InputError, match=r"lacks model\.mm_projector\.2\.bias|unexpected model\.image_newline"
    ):
        files.convert()
    assert not files.out.exists()


def test_unconverted_the_command_is_named_and_works(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_whole()
    with pytest.raises(InputError) as refusal:
        check_folder(files.checkpoint, Settings())
    command = f"python -m phasebench convert llava --checkpoint {files.checkpoint} --clip CLIP --out OUT"
    assert command in str(refusal.value)
    words = command.replace("CLIP", str(files.clip)).replace("OUT", str(files.out)).split()[3:]
    assert main(words) == 0
    assert f"--model llava={files.out}" in capsys.readouterr().out


def check_all(arguments: list[str]) -> None:
    """What ``--model`` checks before anything is loaded."""
    for spec in resolve_models(arguments, {}):
        check_available(spec, Settings())


@pytest.mark.parametrize("beside", ["adapter_config.json", "mm_projector.bin"])
def test_unconverted_parts_of_a_model_name_the_command_too(files: Files, beside: str) -> None:
    """Not the base of an adapter, which is a language model alone."""
    (files.checkpoint / beside).write_text('{"base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}')
    command = f"convert llava --checkpoint {files.checkpoint} --language-model LLAMA --clip CLIP --out OUT"
    with pytest.raises(InputError, match=re.escape(command)):
        check_all([str(files.checkpoint)])
