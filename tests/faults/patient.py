"""A loaded model that faults change and that is restored afterwards; a copied checkpoint that they edit."""

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
class PipedModel(LoadedModel):
    """A model whose pictures and input tensors pass through changes first."""

    pictures: list[Picture] = field(default_factory=list)
    tensors: list[Callable[[Tensors], Tensors]] = field(default_factory=list)

    def inputs(self, images: Sequence[Image.Image]) -> Tensors:
        changed_pictures = list(images)
        for change_picture in self.pictures:
            changed_pictures = [change_picture(image) for image in changed_pictures]
        inputs = super().inputs(changed_pictures)
        for change_tensors in self.tensors:
            inputs = change_tensors(inputs)
        return inputs


class Patient:
    """A loaded model that faults change; ``heal`` undoes all changes."""

    def __init__(self, loaded: LoadedModel, pictures: Sequence[Image.Image]) -> None:
        self.loaded = PipedModel(**{name: getattr(loaded, name) for name in LoadedModel.__dataclass_fields__})
        self._previous_pictures = {
            picture.tobytes(): pictures[index - 1] for index, picture in enumerate(pictures)
        }
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
    def vision_encoder(self) -> Any:
        inner = getattr(self.model, "model", self.model)
        return next(getattr(inner, name) for name in ("vision_tower", "vision_model") if hasattr(inner, name))

    @property
    def projector(self) -> nn.Module:
        return find_projector(self.model)

    def projections(self) -> list[nn.Linear]:
        return [module for module in self.projector.modules() if isinstance(module, nn.Linear)]

    def block_at_depth(self, depth: float) -> Any:
        """The block at this relative depth."""
        return self.blocks[block_number(depth, len(self.blocks)) - 1]

    def first_blocks(self, share: float) -> list[Any]:
        """This share of the blocks, from the first on; at least one."""
        return self.blocks[: max(1, round(share * len(self.blocks)))]

    def set_parameter(self, parameter: Tensor, value: Tensor) -> None:
        """Set a parameter, and with it every parameter that is tied to it."""
        before = parameter.data
        self._undo.callback(setattr, parameter, "data", before)
        parameter.data = value.detach().to(before.dtype)

    def set(self, target: Any, name: str, value: Any) -> None:
        self._undo.callback(setattr, target, name, getattr(target, name))
        setattr(target, name, value)

    def hook(self, module: nn.Module, change: Callable[[Any, Any, Any], Any]) -> None:
        self._undo.callback(module.register_forward_hook(change).remove)

    def hook_arguments(self, module: nn.Module, change: Callable[[Any, Any, Any], Any]) -> None:
        """Change a module's arguments, keyword arguments included."""
        self._undo.callback(module.register_forward_pre_hook(change, with_kwargs=True).remove)

    def features(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change the image tokens [B, P, D] (or [P, D]) from the projector."""
        self.hook(self.projector, lambda _module, _args, out_PD: change(out_PD))

    def pictures(self, change: Picture, share: float = 1.0) -> None:
        """Change this share of the pictures; their content decides which."""
        self.loaded.pictures.append(
            lambda picture: change(picture) if _is_in_share(picture, share) else picture
        )

    def tensors(self, change: Callable[[Tensors], Tensors]) -> None:
        self.loaded.tensors.append(change)

    def previous_picture(self, picture: Image.Image) -> Image.Image:
        """The dataset's picture before this one; a picture that is not in the dataset is returned itself."""
        return self._previous_pictures.get(picture.tobytes(), picture)

    def heal(self) -> None:
        self._undo.close()
        self.loaded.pictures.clear()
        self.loaded.tensors.clear()


def _is_in_share(picture: Image.Image, share: float) -> bool:
    return zlib.crc32(picture.tobytes()) < share * 2**32


def block_number(depth: float, blocks: int) -> int:
    """The number of the block, from 1, at this relative depth."""
    return 1 + round(depth * (blocks - 1))


def noise(tensor: Tensor, relative: float, seed: int = 0) -> Tensor:
    """Gaussian noise with this norm relative to the tensor's norm."""
    sample = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor)
    scaled: Tensor = sample * (relative * tensor.norm() / sample.norm())
    return scaled


def random_weights_like(tensor: Tensor, seed: int = 0) -> Tensor:
    """Gaussian values with the tensor's standard deviation, as if it were only initialised."""
    sample = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor)
    return sample * tensor.std() if tensor.numel() > 1 else sample


def copy_checkpoint(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint; its weights are hard links if the file system supports them."""
    weight_names = {path.name for path in folder.glob(WEIGHTS)}
    shutil.copytree(folder, target, ignore=lambda _folder, names: weight_names & set(names))
    for name in weight_names:
        try:
            os.link(folder / name, target / name)
        except OSError:
            shutil.copyfile(folder / name, target / name)
    return target


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def set_value(path: Path, *keys: str, value: Any) -> None:
    """Set one value of a JSON file, at any depth."""

    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data.setdefault(key, {})
        data[keys[-1]] = value

    edit_json(path, change)
