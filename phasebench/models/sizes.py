"""The size of a model from its configuration alone: it is built on the meta device, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from phasebench.errors import TRANSFORMERS_ERRORS, InputError
from phasebench.models.converters import register_for


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
            return AutoModelForImageTextToText.from_config(config, trust_remote_code=remote_code)
    except TRANSFORMERS_ERRORS as error:
        raise InputError(f"{path}: no image-text-to-text model can be built from it: {error}") from error


def parameters(module: nn.Module) -> int:
    """The number of a module's parameters; shared parameters count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gibibytes(size: int) -> float:
    """A size in bytes, in GiB."""
    return size / 2**30
