"""LAVIS' files of InstructBLIP: converted, they compute what transformers' model computes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, InstructBlipConfig

from phasebench.__main__ import main
from phasebench.errors import InputError
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.models.converters import instructblip
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

State = dict[str, Tensor]
OFFICIAL = (
    (r"^language_projection\.", "llm_proj."),
    (r"^vision_model\.post_layernorm\.", "ln_vision."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"visual_encoder.blocks.\1.norm\2."),
    (
        r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection\.",
        r"visual_encoder.blocks.\1.attn.proj.",
    ),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"visual_encoder.blocks.\1.attn.qkv."),
    (r"^vision_model\.encoder\.layers\.", "visual_encoder.blocks."),
    (r"^qformer\.embeddings\.layernorm\.", "Qformer.bert.embeddings.LayerNorm."),
    (r"^qformer\.", "Qformer.bert."),
    (r"attention\.attention\.", "attention.self."),
    (r"^language_model\.", "language_model:"),
)


def official_name(name: str) -> str:
    for pattern, replacement in OFFICIAL:
        name = re.sub(pattern, replacement, name)
    return name


class Files:
    """Tiny files as LAVIS and others publish them, with the weights of a tiny model of transformers."""

    def __init__(self, tiny: Path, folder: Path) -> None:
        self.folder, self.tiny, self.out = folder, folder / "tiny", folder / "out"
        shutil.copytree(tiny, self.tiny)
        state = load_file(self.tiny / "model.safetensors")
        for name in [name for name in state if name.endswith("qkv.bias")]:
            width = len(state[name]) // 3
            state[name][width : 2 * width] = 0  # EVA's keys have no bias
        save_file(state, self.tiny / "model.safetensors", metadata={"format": "pt"})
        official = {official_name(name): value for name, value in state.items()}
        for name in [name for name in official if name.endswith("qkv.bias")]:
            bias = official.pop(name).chunk(3)
            stem = name.removesuffix("qkv.bias")
            official |= {f"{stem}q_bias": bias[0].clone(), f"{stem}v_bias": bias[2].clone()}
        self.language, self.vision, self.rest = State(), State(), State()
        for name, value in official.items():
            if name.startswith("language_model:"):
                self.language[name.removeprefix("language_model:")] = value
            elif name.startswith("visual_encoder."):
                self.vision[name.removeprefix("visual_encoder.")] = value
            else:
                self.rest[name] = value
        self.rest["Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
        self.config = json.loads((self.tiny / "config.json").read_text())
        self.write()

    def write(self, *, own_vision: bool = False) -> None:
        """Write all files."""
        llama = self.folder / "llama"
        llama.mkdir(exist_ok=True)
        text = {**self.config["text_config"], "architectures": ["LlamaForCausalLM"]}
        (llama / "config.json").write_text(json.dumps(text))
        save_file(self.language, llama / "model.safetensors")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.tiny / file, llama)
        own = {f"visual_encoder.{name}": value for name, value in self.vision.items()} if own_vision else {}
        torch.save({"model": {**self.rest, **own}}, self.folder / "checkpoint.pth")
        head = {"head.weight": torch.ones(3, 2), "norm.weight": torch.ones(2)}
        torch.save({**self.vision, **head}, self.folder / "vit.pth")

    def convert(self, *, vit: bool = True, **options: Any) -> Path:
        """The folder that is written."""
        config = InstructBlipConfig.from_pretrained(self.tiny)
        sizes = {
            name: getattr(config, name) for name in ("vision_config", "qformer_config", "num_query_tokens")
        }
        return instructblip.convert(
            self.folder / "checkpoint.pth",
            self.folder / "llama",
            self.tiny / "qformer_tokenizer",
            self.out,
            self.folder / "vit.pth" if vit else None,
            sizes=sizes,
            **options,
        )


@pytest.fixture
def files(cache: Path, tmp_path: Path) -> Files:
    return Files(make_tiny_model("tiny-instructblip", cache), tmp_path)


def loaded_from(folder: Path) -> LoadedModel:
    return load(ModelSpec("mine", folder), folder, Settings(device="cpu", prompt=instructblip.PROMPT))


@pytest.mark.parametrize("own_vision", [False, True])
@torch.no_grad()
def test_it_computes_the_same(files: Files, pictures: list[Image.Image], own_vision: bool) -> None:
    files.write(own_vision=own_vision)
    original = loaded_from(files.tiny)
    inputs = original.inputs(pictures[:2])
    converted = AutoModelForImageTextToText.from_pretrained(files.convert(vit=not own_vision)).eval()
    assert torch.equal(converted(**inputs).logits, original.model(**inputs).logits)


def test_prompts_begin_as_laviss_do(files: Files, pictures: list[Image.Image]) -> None:
    loaded = loaded_from(files.convert())
    ids = loaded.inputs(pictures[:1])["input_ids"][0].tolist()
    tokenizer = loaded.processor.tokenizer
    image, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "</s>"))
    queries = loaded.model.config.num_query_tokens
    text = tokenizer(instructblip.PROMPT, add_special_tokens=False)["input_ids"]
    assert ids == [image] * queries + [end, *text]
    assert loaded.processor.qformer_tokenizer.bos_token == instructblip.QFORMER_BOS


def test_without_a_vision_encoder_the_file_is_named(files: Files) -> None:
    with pytest.raises(InputError, match=r"has no vision encoder; name BLIP-2's eva_vit_g\.pth with --vit"):
        files.convert(vit=False)


@pytest.mark.parametrize(
    ("lost", "file"), [("llm_proj.bias", "checkpoint"), ("ln_vision.weight", "checkpoint")]
)
def test_what_a_file_lacks_is_named(files: Files, lost: str, file: str) -> None:
    del files.rest[lost]
    files.rest["surprise"] = torch.ones(1)
    files.write()
    with pytest.raises(
        InputError, match=rf"{file}\.pth is not the expected file: it lacks {lost}; .*surprise"
    ):
        files.convert()
    assert not files.out.exists()


def test_the_command_takes_the_vision_encoder_or_not(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "checkpoint": "checkpoint.pth",
        "language-model": "llama",
        "qformer-tokenizer": "tiny",
        "out": "out",
    }
    words = [text for name, file in options.items() for text in (f"--{name}", str(files.folder / file))]
    assert main(["convert", "instructblip", *words]) == 2
    assert "has no vision encoder" in capsys.readouterr().err
    assert main(["convert", "instructblip", *words, "--vit", str(files.folder / "vit.pth")]) == 2
    assert "is not the expected file" in capsys.readouterr().err  # the published sizes are larger
