"""A model that faults are put into and taken out of again; a checkpoint's folder that they edit."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from phasebench.models.anatomy.parts import find_layers, find_projector, output_head, sequence_model
from phasebench.models.checks import WEIGHTS
from phasebench.models.loading import LoadedModel

Picture = Callable[[Image.Image], Image.Image]
Tensors = dict[str, Tensor]


@dataclass
class Piped(LoadedModel):
    """A model whose pictures, and the tensors made of them, pass through a pipeline first."""

    pictures: list[Picture] = field(default_factory=list)
    tensors: list[Callable[[Tensors], Tensors]] = field(default_factory=list)

    def inputs(self, images: Sequence[Image.Image]) -> Tensors:
        changed = list(images)
        for change in self.pictures:
            changed = [change(image) for image in changed]
        found = super().inputs(changed)
        for alter in self.tensors:
            found = alter(found)
        return found


class Patient:
    """What a fault changes; all of it is as before after ``heal``."""

    def __init__(self, loaded: LoadedModel, pictures: Sequence[Image.Image]) -> None:
        self.loaded = Piped(**{name: getattr(loaded, name) for name in LoadedModel.__dataclass_fields__})
        self._others = {picture.tobytes(): pictures[index - 1] for index, picture in enumerate(pictures)}
        self._undo = ExitStack()

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def blocks(self) -> list[Any]:
        return find_layers(sequence_model(self.model))

    @property
    def decoder(self) -> Any:
        return sequence_model(self.model)

    @property
    def head(self) -> Any:
        return output_head(self.model)

    @property
    def embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    @property
    def eyes(self) -> Any:
        inner = getattr(self.model, "model", self.model)
        return next(getattr(inner, name) for name in ("vision_tower", "vision_model") if hasattr(inner, name))

    @property
    def projector(self) -> nn.Module:
        return find_projector(self.model)

    def projections(self) -> list[nn.Linear]:
        return [module for module in self.projector.modules() if isinstance(module, nn.Linear)]

    def at(self, depth: float) -> Any:
        """The block at this relative depth."""
        return self.blocks[place(depth, len(self.blocks)) - 1]

    def of_blocks(self, share: float) -> list[Any]:
        """The first blocks, as many as this share of all; at least one."""
        return self.blocks[: max(1, round(share * len(self.blocks)))]

    def put(self, parameter: Tensor, value: Tensor) -> None:
        """Another value for a parameter, and for what is tied to it."""
        before = parameter.data
        self._undo.callback(setattr, parameter, "data", before)
        parameter.data = value.detach().to(before.dtype)

    def set(self, target: Any, name: str, value: Any) -> None:
        self._undo.callback(setattr, target, name, getattr(target, name))
        setattr(target, name, value)

    def hook(self, module: nn.Module, change: Callable[[Any, Any, Any], Any]) -> None:
        self._undo.callback(module.register_forward_hook(change).remove)

    def before(self, module: nn.Module, change: Callable[[Any, Any, Any], Any]) -> None:
        """A hook on a module's arguments, keywords too."""
        self._undo.callback(module.register_forward_pre_hook(change, with_kwargs=True).remove)

    def features(self, change: Callable[[Tensor], Tensor]) -> None:
        """A change of the image tokens [B, P, D] (or [P, D]) that the projector gives."""
        self.hook(self.projector, lambda _module, _args, out_PD: change(out_PD))

    def pictures(self, change: Picture, share: float = 1.0) -> None:
        """A change of this share of the pictures, told apart by their content."""
        self.loaded.pictures.append(lambda picture: change(picture) if _chosen(picture, share) else picture)

    def tensors(self, change: Callable[[Tensors], Tensors]) -> None:
        self.loaded.tensors.append(change)

    def other(self, picture: Image.Image) -> Image.Image:
        """The data set's picture before this one; one that is not of the data set stays."""
        return self._others.get(picture.tobytes(), picture)

    def heal(self) -> None:
        self._undo.close()
        self.loaded.pictures.clear()
        self.loaded.tensors.clear()


def _chosen(picture: Image.Image, share: float) -> bool:
    return zlib.crc32(picture.tobytes()) < share * 2**32


def place(depth: float, blocks: int) -> int:
    """The number of the block, from 1, at this relative depth."""
    return 1 + round(depth * (blocks - 1))


def noise(like: Tensor, relative: float, seed: int = 0) -> Tensor:
    """Gaussian noise of this norm relative to the tensor's own."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    found: Tensor = drawn * (relative * like.norm() / drawn.norm())
    return found


def alike(like: Tensor, seed: int = 0) -> Tensor:
    """Gaussian values of the tensor's own spread: as it would be left at its initialisation."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    return drawn * like.std() if like.numel() > 1 else drawn


def copied(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint whose weights are hard links where the file system has them."""
    weights = {path.name for path in folder.glob(WEIGHTS)}
    shutil.copytree(folder, target, ignore=lambda _folder, names: weights & set(names))
    for name in weights:
        try:
            os.link(folder / name, target / name)
        except OSError:
            shutil.copyfile(folder / name, target / name)
    return target


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def setting(path: Path, *keys: str, value: Any) -> None:
    """Set one value of a JSON file, however deep."""

    def change(found: dict[str, Any]) -> None:
        for key in keys[:-1]:
            found = found.setdefault(key, {})
        found[keys[-1]] = value

    edit(path, change)
