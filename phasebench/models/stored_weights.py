"""What weight files hold, from their headers alone: names, precisions and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from phasebench.errors import InputError

INTEGERS = re.compile(r"[IU]\d+|u?int\d+")
"""The names of integer types in safetensors (``I8``) and in torch (``uint8``)."""
INTEGER_BUFFERS = {"bias", "position_ids", "num_batches_tracked", "relative_position_index"}
"""Last parts of names of buffers with masks and indices in older checkpoints, which are no weights."""
SCALES = re.compile(
    r"[._](SCB|scales?|weight_scale(_inv)?|input_scale|qweight|qzeros|g_idx|zero_points?|absmax|quant_map"
    r"|quant_state(\.\w+)?|weight_packed|weight_shape)$"
)
"""Ends of names that quantized weights have beside them."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its type, as the file names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def stored_weights(files: Iterable[Path]) -> dict[str, Stored]:
    """The tensors in weight files by name; pickled files have been allowed.

    Raises:
        InputError: a file is damaged; the message names it.
    """
    return {name: stored for path in files for name, stored in _header(path).items()}


def _header(path: Path) -> dict[str, Stored]:
    if path.suffix != ".safetensors":
        return _pickled_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {name: Stored(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); copy it again") from error


def _pickled_header(path: Path) -> dict[str, Stored]:
    import torch

    try:
        tensors = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # unpickling damaged or forbidden content may raise any
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged, or holds more than weights: {reason}") from error
    items = tensors.items() if isinstance(tensors, dict) else ()
    return {
        name: Stored(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in items
        if isinstance(value, torch.Tensor)
    }


def check_not_quantized(
    folder: Path, stored: dict[str, Stored], unused: Sequence[str], buffers: Iterable[str]
) -> None:
    """Check that no weight is quantized: without a quantization_config its numbers would be used unscaled.

    Args:
        folder: the checkpoint, whose configuration has no quantization_config.
        stored: the tensors in its files.
        unused: the names of those that the model does not use.
        buffers: the names of the model's buffers, which may be integers.

    Raises:
        InputError: there are such weights.
    """
    no_weights = {name.rpartition(".")[2] for name in buffers} | INTEGER_BUFFERS
    suspicious = [
        name
        for name, tensor in stored.items()
        if INTEGERS.fullmatch(tensor.dtype)
        and name not in unused
        and name.rpartition(".")[2] not in no_weights
    ]
    suspicious += [name for name in unused if SCALES.search(name)]
    if suspicious:
        name = suspicious[0]
        dtype = f" of type {stored[name].dtype}" if name in stored else ""
        raise InputError(
            f"{folder} has quantized weights ({name}{dtype}), and config.json has no quantization_config by "
            "which they would be scaled; copy it from the quantized model, or give the original model"
        )
