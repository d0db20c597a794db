"""Quantized checkpoints and models: their precision, and what their weights are called in reports."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from phasebench.errors import InputError
from phasebench.models.anatomy.parts import find_layers, precision, sequence_model
from phasebench.models.checks import read_config

METHOD = "quant_method"
BITSANDBYTES = "bitsandbytes"
"""A method whose bits are not part of its name in configurations, but are in transformers' table."""
LIBRARIES = {
    "torchao": "torchao", "optimum": "quanto", "bitsandbytes": "bitsandbytes",
    "compressed_tensors": "compressed-tensors", "gptqmodel": "gptq", "awq": "awq",
}  # fmt: skip
"""A package whose classes hold quantized weights -> the name of the method."""
TYPE_NAME = re.compile(r"(?P<kind>Float|Int|UInt)(?P<bits>\d+)")
"""The first number format in the name of a class of torchao, such as ``Int8WeightOnlyConfig``."""


def quantization_of(folder: Path) -> Mapping[str, Any] | None:
    """The ``quantization_config`` of a checkpoint or of its language model; None for plain weights."""
    config = read_config(folder)
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    return next((part["quantization_config"] for part in parts if part.get("quantization_config")), None)


def check_method(folder: Path) -> None:
    """Check that transformers knows the method: it would ignore another, and use the weights unscaled.

    Raises:
        InputError: it does not.
    """
    quantization = quantization_of(folder)
    method = quantization.get(METHOD, "none") if quantization else BITSANDBYTES
    if method != BITSANDBYTES and method not in AUTO_QUANTIZER_MAPPING:
        raise InputError(
            f"{folder / 'config.json'}: this transformers does not know the quantization {method!r}; "
            "give the model from which it was made, or a newer transformers"
        )


def saved_dtype(folder: Path) -> torch.dtype | None:
    """The dtype that a checkpoint's configuration gives, beside that of its quantized weights; or None.

    ``folder`` may also be a configuration file.
    """
    config = read_config(folder)
    for part in (config, config.get("text_config") or {}):
        dtype = getattr(torch, str(part.get("dtype", part.get("torch_dtype"))), None)
        if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1:
            return dtype
    return None


def quantization_name(model: Any) -> str | None:
    """The weights' format and the library, such as ``int8 (torchao)``; None for plain weights."""
    config = getattr(model.config, "quantization_config", None)
    if config is None and hasattr(model.config, "get_text_config"):
        config = getattr(model.config.get_text_config(), "quantization_config", None)
    if config is not None:
        fields = config if isinstance(config, Mapping) else config.to_dict()
        method = str(getattr(fields.get(METHOD), "value", fields.get(METHOD)))
        return f"{_format(fields)} ({method})" if _format(fields) else method
    for weight in find_layers(sequence_model(model))[0].parameters():
        package, kind = type(weight).__module__.partition(".")[0], type(weight).__name__
        if package in LIBRARIES:
            return f"{_number_format(kind) or kind} ({LIBRARIES[package]})"
    return None


def expansion_note(folder: Path, model: Any) -> tuple[str, ...]:
    """A note if transformers expanded the quantized weights, as it does where no kernel multiplies them."""
    quantization = quantization_of(folder)
    if quantization is None or quantization_name(model):
        return ()
    method, dtype = quantization.get(METHOD), str(precision(model)).removeprefix("torch.")
    return (f"the weights are quantized ({method}); transformers expanded them to {dtype} here",)


def _format(fields: Mapping[str, Any]) -> str:
    """The format of the weights in a quantization's configuration; empty if it is not said."""
    if fields.get("load_in_4bit"):
        return str(fields.get("bnb_4bit_quant_type", "4 bits"))
    if fields.get("load_in_8bit"):
        return "int8"
    if "bits" in fields:
        return f"int{fields['bits']}"
    for group in (fields.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        return f"{weights.get('type', 'int')}{weights.get('num_bits', '')}"
    return _number_format(str(fields.get("quant_type", fields.get("weights", ""))))


def _number_format(text: str) -> str:
    """``int8`` of the name of a class or type that begins with it."""
    found = TYPE_NAME.search(text) or re.search(r"(?P<kind>u?int|float)(?P<bits>\d+)", text)
    return f"{found['kind'].lower()}{found['bits']}" if found else ""


class _OncePerMessage(logging.Filter):
    """Lets each message pass once: some libraries warn at every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in self._seen
        self._seen.add(message)
        return is_new


def warn_once() -> None:
    """Let the libraries that quantize log each message once, from now on."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if not isinstance(logger, logging.Logger) or name.partition(".")[0] not in LIBRARIES:
            continue
        if not any(isinstance(part, _OncePerMessage) for part in logger.filters):
            logger.addFilter(_OncePerMessage())
