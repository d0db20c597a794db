"""The conditions of a measurement as plain data: model, data, prompt, code, precision, device, versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers

from phasebench.measurement.row_key import measuring_code, model_code
from phasebench.models.anatomy.adapter import Anatomy
from phasebench.models.loading import LoadedModel
from phasebench.models.processors import tokenizer_digests
from phasebench.models.quantization import quantization_name
from phasebench.settings import Settings
from phasebench.version import __version__


def row_conditions(loaded: LoadedModel, anatomy: Anatomy, settings: Settings) -> dict[str, Any]:
    """All conditions that decide a row's numbers, except the input tensors; and the model's name."""
    return {
        "model": loaded.name,
        "checkpoint": loaded.checkpoint,
        "definitions": measuring_code(),
        "code": model_code(loaded.model),
        "matmul": torch.get_float32_matmul_precision(),
        "lens_norm": settings.lens_norm,
        "last_layer": _last_layer(settings),
        "attention": getattr(loaded.model.config, "_attn_implementation", None),
        "unmeasured": anatomy.unmeasured,
        "weights": str(loaded.dtype).removeprefix("torch."),
        **machine(loaded, anatomy),
    }


def run_conditions(
    loaded: LoadedModel,
    anatomy: Anatomy,
    dataset: str,
    settings: Settings,
    layouts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The part of a measurement's provenance that does not depend on the samples."""
    optional = {"source": loaded.source, "quantization": quantization_name(loaded.model)}
    return {
        "model": loaded.name,
        "architecture": str(loaded.model.config.model_type),
        "checkpoint": loaded.checkpoint,
        "dataset": dataset,
        "prompt": loaded.prompt,
        "processing": loaded.processing_digest(),
        "tokenizers": tokenizer_digests(loaded.processor),
        "layout": layouts[0] if len(layouts) == 1 else list(layouts),
        "seed": settings.seed,
        "lens_norm": settings.lens_norm,
        "last_layer": _last_layer(settings),
        **machine(loaded, anatomy),
        **{name: value for name, value in optional.items() if value},
    }


def _last_layer(settings: Settings) -> str:
    """The state of the last layer that similarity compares: before the final norm, or after it."""
    return "normed" if settings.normed_last_layer else "raw"


def machine(loaded: LoadedModel, anatomy: Anatomy) -> dict[str, str]:
    """Precision, device and versions, for row conditions and provenance."""
    return {
        "device": _device_name(loaded.device),
        "dtype": str(anatomy.dtype).removeprefix("torch."),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
        "phasebench": __version__,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({platform.machine()})"
