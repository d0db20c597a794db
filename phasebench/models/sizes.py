"""The size of a model from its configuration alone: it is built on the meta device, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from phasebench.errors import TRANSFORMERS_ERRORS, InputError
from phasebench.models.anatomy.parts import output_head
from phasebench.models.checks import read_config
from phasebench.models.converters import register_for

CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux tells the limits of a container."""


def empty_model(path: Path, *, remote_code: bool = False) -> Any:
    """The model that a configuration describes, on the meta device.

    Args:
        path: a checkpoint's folder, or a configuration file.
        remote_code: whether the checkpoint's own code may run.

    Raises:
        InputError: transformers cannot build it; the message has the reason.
    """
    register_for(path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=remote_code)
        with init_empty_weights(include_buffers=True):
            model = AutoModelForImageTextToText.from_config(config, trust_remote_code=remote_code)
    except TRANSFORMERS_ERRORS as error:
        raise InputError(f"{path}: no image-text-to-text model can be built from it: {error}") from error
    _untie_head(model, path)
    return model


def _untie_head(model: Any, path: Path) -> None:
    """Give the head a weight of its own if the configuration says so, which T5's class ignores."""
    config = read_config(path)
    text = config.get("text_config", config)
    head = output_head(model)
    weight = getattr(head, "weight", None)
    if text.get("tie_word_embeddings") is False and head is not None and isinstance(weight, nn.Parameter):
        head.weight = nn.Parameter(torch.empty_like(weight))


def check_main_memory(folder: Path, model: nn.Module) -> None:
    """Check that the weights of a model on the meta device fit into main memory, through which they are read.

    Raises:
        InputError: they do not; the system would end the process without a message.
    """
    needed = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    available = available_memory()
    if needed > available:
        raise InputError(
            f"{folder} needs {gibibytes(needed):.1f} GiB of main memory; "
            f"{gibibytes(available):.1f} GiB are free",
            remedy="max_memory",
        )


def available_memory() -> int:
    """Free main memory in bytes: the machine's, or what the container's limit leaves if that is less."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (CONTAINER / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no container, or no limit
        return available
    cached = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file", "inactive_file")))
    return min(available, limit - used + cached)


def parameters(module: nn.Module) -> int:
    """The number of a module's parameters; shared parameters count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gibibytes(size: int) -> float:
    """A size in bytes, in GiB."""
    return size / 2**30
