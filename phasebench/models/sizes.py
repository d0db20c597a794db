"""How large a model is, from its configuration alone: built on the meta device, no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from phasebench.errors import OF_TRANSFORMERS, InputError
from phasebench.models.converters import register_for


def empty_model(folder: Path, *, remote_code: bool = False) -> Any:
    """The model that a folder's, or a file's, configuration describes, on the meta device.

    Raises:
        InputError: transformers cannot build it; the message has its reason.
    """
    register_for(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
        with init_empty_weights(include_buffers=True):
            return AutoModelForImageTextToText.from_config(config, trust_remote_code=remote_code)
    except OF_TRANSFORMERS as error:
        raise InputError(f"{folder}: no image-text-to-text model can be built from it: {error}") from error


def parameters(module: nn.Module) -> int:
    """Parameters in all; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gibibytes(size: int) -> float:
    """Bytes in GiB."""
    return size / 2**30
