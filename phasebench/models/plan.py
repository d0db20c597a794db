"""What measuring a model will take, before any weight is read: sizes, placement, operations, time.

Operations are counted as two per multiplication of the linear layers and of attention; layers of
experts are counted whole, so a mixture is overestimated. Symbols: N positions, V vocabulary, D width.
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
from phasebench.models.anatomy.parts import encodes, find_layers, output_head, sequence_model
from phasebench.models.devices import Placement
from phasebench.models.sizes import parameters

TEXT = 24
"""Text tokens that a prompt is taken to have."""
DTYPES = (torch.float32, torch.bfloat16)
MATRIX, PATIENCE = 256, 0.1
"""Side of the first matrices that take a device's speed; seconds after which they grow no more."""


@dataclass(frozen=True)
class Plan:
    """What is known of a model beforehand.

    Attributes:
        parameters: in all.
        layers, width, vocabulary: of the language model.
        visual, positions: image tokens and positions of one image's prompt; None where not fixed.
        plain, rows, lens: operations for one image: of the forward pass, of the attention rows, and of
            the lens (0 where there is no lens).
        placed: device -> bytes that are put there, in the dtype asked for.
    """

    parameters: int
    layers: int
    width: int
    vocabulary: int
    visual: int | None
    positions: int | None
    plain: float
    rows: float
    lens: float
    placed: dict[str, int]


def plan(model: Any, visual: int | None, where: Placement) -> Plan:
    """The plan of a model on the meta device; ``visual`` image tokens, if the caller knows.

    Raises:
        InputError: its layers cannot be found.
    """
    decoder, head = sequence_model(model), output_head(model)
    layers = find_layers(decoder)
    text = model.config.get_text_config()
    width, vocabulary = _width(text), int(getattr(text, "vocab_size", 0))
    visual = visual if visual is not None else _visual(model.config)
    positions = None if visual is None else visual + TEXT
    count = positions or 0
    inside = sum(map(parameters, layers))
    outside = _outside(model, decoder, head)
    attention = 4.0 * count * count * width * len(layers) / (1 if encodes(model) else 2)
    decoded = 0 if encodes(model) or head is None else (visual or 0) * (len(layers) + 1)
    return Plan(
        parameters(model),
        len(layers),
        width,
        vocabulary,
        visual,
        positions,
        plain=2.0 * inside * count + attention + 2.0 * outside * _patches(model.config),
        rows=2.0 * count * width * width * len(layers),
        lens=2.0 * decoded * width * vocabulary,
        placed=_placed(model, where),
    )


def _outside(model: Any, *language: nn.Module | None) -> int:
    """Parameters of what comes before the language model; a head may share its own with the embeddings."""
    parts = [*language, model.get_decoder() if encodes(model) else None]
    inner = {id(p) for part in parts if part is not None for p in part.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in inner)


def _width(text: Any) -> int:
    names = ("hidden_size", "d_model", "n_embd")
    found = [getattr(text, name) for name in names if getattr(text, name, None)]
    if not found:
        raise InputError(f"{text.model_type}: its configuration gives no width ({', '.join(names)})")
    return int(found[0])


def _patches(config: Any) -> int:
    """Patches of one picture in the vision model, as far as its configuration says."""
    vision = getattr(config, "vision_config", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if isinstance(side, int) and isinstance(patch, int):
        return (side // patch) ** 2 + 1
    return 0


def _visual(config: Any) -> int | None:
    """Image tokens of one picture, where the configuration fixes them."""
    if getattr(config, "image_grid_pinpoints", None):
        return None  # as many tiles as the picture's size asks for
    for name in ("num_query_tokens", "image_seq_length", "mm_tokens_per_image"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    return None


def _placed(model: Any, where: Placement) -> dict[str, int]:
    """Bytes by device: all on one, but of a model that is spread."""
    dtype = where.dtype
    if not where.spread:
        return {str(where.device): parameters(model) * dtype.itemsize}
    limits = get_max_memory(where.memory)
    whole = infer_auto_device_map(
        model, max_memory=limits, no_split_module_classes=model._no_split_modules, dtype=dtype
    )
    placed: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), -1, -1))
        device = str(next(whole[prefix] for prefix in prefixes if prefix in whole))
        placed[device] = placed.get(device, 0) + parameter.numel() * dtype.itemsize
    return placed


def speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of matrix products on ``device``, ever larger ones: the best of them."""
    best, side, started = 0.0, MATRIX, time.perf_counter()
    while time.perf_counter() - started < PATIENCE:
        one = torch.rand(side, side, device=device, dtype=dtype)
        began = time.perf_counter()
        product = one @ one
        product[0, 0].item()  # waits for an accelerator
        best = max(best, 2.0 * side**3 / (time.perf_counter() - began))
        side *= 2
    return best
