"""Tiny checkpoints, loaded or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from phasebench.models.loading import LoadedModel


def load_tiny(name: str, cache: Path) -> LoadedModel:
    from phasebench.models.loading import load
    from phasebench.models.named_models import bundled_models
    from phasebench.settings import Settings

    spec = next(spec for spec in bundled_models() if spec.name == name)
    return load(spec, cache, Settings(device="cpu"))


@contextmanager
def scaled_projector(loaded: LoadedModel, factor: float) -> Iterator[None]:
    """The projector's last weight tensor scaled for the time of the block."""
    import torch

    from phasebench.models.anatomy.parts import find_projector

    weight = [p for name, p in find_projector(loaded.model).named_parameters() if name.endswith("weight")][-1]
    kept = weight.clone()
    with torch.no_grad():
        weight.mul_(factor)
        try:
            yield
        finally:
            weight.copy_(kept)


def change_weights(folder: Path, change: Callable[[dict[str, Tensor], str], None]) -> None:
    """Change the tensors of a checkpoint, given the name of one of them."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors, next(key for key in tensors if key.endswith("projector.linear_2.weight")))
    save_file(tensors, path, metadata={"format": "pt"})
