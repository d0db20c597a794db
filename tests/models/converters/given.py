"""Official files of each model, tiny; what is converted from them."""

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
from phasebench.models.loading import Loaded
from tests.support import official_files as files

MODELS = ("minigpt4", "minigpt_v2", "limber")
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


@dataclass
class Converted:
    """A converted model, loaded, beside what it was made of."""

    given: Given
    folder: Path
    loaded: Loaded


def only(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("given", [name], indirect=True)


every_model = pytest.mark.parametrize("given", MODELS, indirect=True)
LANGUAGE = {"minigpt4": "llama", "minigpt_v2": "llama", "limber": "gptj"}
CHECKPOINT = {"minigpt4": "checkpoint.pth", "minigpt_v2": "checkpoint.pth", "limber": "proj.ckpt"}
PROJECTION = {"minigpt4": "llama_proj.weight", "minigpt_v2": "llama_proj.weight", "limber": "weight"}


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "model.safetensors"))
