"""Tiny official files of each model, and the models converted from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from phasebench.models.converters import limber, minigpt4, minigpt_v2
from phasebench.models.loading import LoadedModel
from tests.support import official_files as files

MODELS = ("minigpt4", "minigpt_v2", "limber")
SIZES_4 = SimpleNamespace(
    vision_config=files.vision_config(), qformer_config=files.qformer_config(), num_query_tokens=files.QUERIES
)
SIZES_V2 = SimpleNamespace(vision_config=files.vision_config(factor=2), image_seq_length=files.GRID**2)
PROMPTS = {"minigpt4": minigpt4.PROMPT, "minigpt_v2": minigpt_v2.PROMPT, "limber": limber.PROMPT}


@dataclass
class OfficialModel:
    """The official files of one model in a folder; ``convert`` converts them."""

    name: str
    folder: Path

    def path(self, file: str) -> Path:
        return self.folder / file

    def convert(self, out: str = "out") -> Path:
        path, target = self.path, self.folder / out
        if self.name == "minigpt4":
            return minigpt4.convert(
                path("vit.pth"),
                path("qformer.pth"),
                path("llama"),
                path("checkpoint.pth"),
                target,
                size_config=SIZES_4,
            )
        if self.name == "minigpt_v2":
            return minigpt_v2.convert(
                path("vit.pth"),
                path("llama"),
                path("checkpoint.pth"),
                target,
                size_config=SIZES_V2,
                rank=files.RANK,
            )
        return limber.convert(path("beit"), path("gptj"), path("proj.ckpt"), target)

    def resave(self, file: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Save one pickled file again with a change to its table of tensors."""
        content = torch.load(self.path(file), weights_only=True)
        change(content.get("model", content))
        torch.save(content, self.path(file))


def write_files(name: str, folder: Path) -> OfficialModel:
    torch.manual_seed(MODELS.index(name))
    if name == "limber":
        files.beit_folder(folder / "beit")
        files.gptj_folder(folder / "gptj")
        files.save(folder / "proj.ckpt", files.linear_state(files.VWIDTH, 32, prefix=""))
        return OfficialModel(name, folder)
    files.save(folder / "vit.pth", files.eva_state())
    files.llama_folder(folder / "llama")
    if name == "minigpt4":
        files.save(folder / "qformer.pth", {"model": files.qformer_state(), "epoch": 9})
        checkpoint = files.linear_state(files.QWIDTH, 24)
    else:
        checkpoint = files.linear_state(4 * files.VWIDTH, 24) | files.lora_state()
    files.save(folder / "checkpoint.pth", {"model": checkpoint, "optimizer": {"state": {}}, "epoch": 3})
    return OfficialModel(name, folder)


@dataclass
class Conversion:
    """A converted model, loaded, and its official files."""

    official: OfficialModel
    folder: Path
    loaded: LoadedModel


def for_model(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("official", [name], indirect=True)


for_every_model = pytest.mark.parametrize("official", MODELS, indirect=True)
LANGUAGE = {"minigpt4": "llama", "minigpt_v2": "llama", "limber": "gptj"}
CHECKPOINT = {"minigpt4": "checkpoint.pth", "minigpt_v2": "checkpoint.pth", "limber": "proj.ckpt"}
PROJECTION = {"minigpt4": "llama_proj.weight", "minigpt_v2": "llama_proj.weight", "limber": "weight"}


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "model.safetensors"))
