"""How large a model is, from its configuration alone: built on the meta device, no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from phasebench.errors import InputError
from phasebench.models.kin import register_for


def empty_model(place: Path, *, remote_code: bool = False) -> Any:
    """The model that a folder's, or a file's, configuration describes, on the meta device.

    Raises:
        InputError: transformers cannot build it; the message has its reason.
    """
    register_for(place)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=remote_code)
        with init_empty_weights(include_buffers=True):
            return AutoModelForImageTextToText.from_config(config, trust_remote_code=remote_code)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, RuntimeError) as error:
        raise InputError(f"{place}: no image-text-to-text model can be built from it: {error}") from error


def parameters(module: nn.Module) -> int:
    """Parameters in all; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gibibytes(count: int, dtype: torch.dtype) -> float:
    """Memory of so many parameters, in GiB."""
    return count * dtype.itemsize / 2**30
