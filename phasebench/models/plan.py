"""Estimates of a measurement's cost before any weight is read: sizes, placement, operations, speed.

Each multiplication in linear layers and attention counts as two operations. All experts are counted, so
a mixture of experts is overestimated. Symbols: N positions, V vocabulary, D width.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import infer_auto_device_map
from accelerate.utils import get_max_memory
from torch import nn

from phasebench.errors import InputError
from phasebench.models.anatomy.parts import find_layers, is_encoder_decoder, output_head, sequence_model
from phasebench.models.devices import Placement
from phasebench.models.sizes import available_memory, parameters

TEXT_TOKENS = 24
"""Assumed number of text tokens in a prompt."""
DTYPES = (torch.float32, torch.bfloat16)
MATRIX_SIDE, SECONDS = 256, 0.1
"""For timing a device: the side of the first matrices, and the seconds after which they stop growing."""


@dataclass(frozen=True)
class Plan:
    """Sizes and costs of a model, from its configuration.

    Attributes:
        parameters: number of all parameters.
        layers, width, vocabulary: of the language model.
        visual, positions: the number of image tokens, and of all positions in a prompt with one image; None
            if they are not fixed.
        pass_operations, attention_operations, lens_operations: the operations for one image in the forward
            pass, for the attention rows, and for the lens (0 if there is no lens).
        bytes_by_device: device -> bytes of weights there, in the chosen dtype.
    """

    parameters: int
    layers: int
    width: int
    vocabulary: int
    visual: int | None
    positions: int | None
    pass_operations: float
    attention_operations: float
    lens_operations: float
    bytes_by_device: dict[str, int]


def plan(model: Any, visual: int | None, placement: Placement) -> Plan:
    """The plan for a model on the meta device.

    Args:
        model: the model.
        visual: the number of image tokens of one image, if it is known.
        placement: the device and the precision of the weights.

    Raises:
        InputError: its layers cannot be found.
    """
    decoder, head = sequence_model(model), output_head(model)
    layers = find_layers(decoder)
    text = model.config.get_text_config()
    width, vocabulary = _width(text), int(getattr(text, "vocab_size", 0))
    visual = visual if visual is not None else _image_tokens(model.config)
    positions = None if visual is None else visual + TEXT_TOKENS
    count = positions or 0
    in_layers = sum(map(parameters, layers))
    in_vision = _vision_parameters(model, decoder, head)
    encoder = is_encoder_decoder(model)
    attention = 4.0 * count * count * width * len(layers) / (1 if encoder else 2)
    decoded_states = 0 if encoder or head is None else (visual or 0) * (len(layers) + 1)
    return Plan(
        parameters(model),
        len(layers),
        width,
        vocabulary,
        visual,
        positions,
        pass_operations=2.0 * in_layers * count + attention + 2.0 * in_vision * _patches(model.config),
        attention_operations=2.0 * count * width * width * len(layers),
        lens_operations=2.0 * decoded_states * width * vocabulary,
        bytes_by_device=_bytes_by_device(model, placement),
    )


def _vision_parameters(model: Any, *language: nn.Module | None) -> int:
    """Number of parameters outside the parts ``language``; a head may share weights with the embeddings."""
    parts = [*language, model.get_decoder() if is_encoder_decoder(model) else None]
    language_ids = {id(p) for part in parts if part is not None for p in part.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in language_ids)


def _width(text: Any) -> int:
    names = ("hidden_size", "d_model", "n_embd")
    widths = [getattr(text, name) for name in names if getattr(text, name, None)]
    if not widths:
        raise InputError(f"{text.model_type}: its configuration gives no width ({', '.join(names)})")
    return int(widths[0])


def _patches(config: Any) -> int:
    """Number of patches of one image in the vision model; 0 if the configuration does not say."""
    vision = getattr(config, "vision_config", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if isinstance(side, int) and isinstance(patch, int):
        return (side // patch) ** 2 + 1
    return 0


def _image_tokens(config: Any) -> int | None:
    """Number of image tokens of one image; None if the configuration does not fix it."""
    if getattr(config, "image_grid_pinpoints", None):
        return None  # the number of tiles depends on the image's size
    for name in ("num_query_tokens", "image_seq_length", "mm_tokens_per_image"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    return None


def _bytes_by_device(model: Any, placement: Placement) -> dict[str, int]:
    """Bytes of weights on each device; only a model that is spread has several."""
    dtype = placement.dtype
    if not placement.spread:
        return {str(placement.device): parameters(model) * dtype.itemsize}
    limits = get_max_memory(placement.memory)
    device_map = infer_auto_device_map(
        model, max_memory=limits, no_split_module_classes=model._no_split_modules, dtype=dtype
    )
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), -1, -1))
        device = str(next(device_map[prefix] for prefix in prefixes if prefix in device_map))
        sizes[device] = sizes.get(device, 0) + parameter.numel() * dtype.itemsize
    return sizes


def speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second on ``device``: the fastest of a series of growing matrix products."""
    _product_seconds(MATRIX_SIDE, device, dtype)  # the first product pays for the start of the device
    fastest, side, start = 0.0, MATRIX_SIDE, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        fastest = max(fastest, 2.0 * side**3 / _product_seconds(side, device, dtype))
        side *= 2
    return fastest


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype) -> float:
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    start = time.perf_counter()
    (matrix @ matrix)[0, 0].item()  # waits for an accelerator
    return time.perf_counter() - start


def free_bytes(device: str) -> int | None:
    """The memory that is free on a device, ``cpu`` or ``cuda:0``; None if that is not known (``disk``)."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return available_memory()
    if kind == "cuda" or kind.isdigit():  # accelerate names accelerators by number
        return int(torch.cuda.mem_get_info(int(number or (kind if kind.isdigit() else 0)))[0])
    return None
