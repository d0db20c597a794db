"""One instrumented forward pass over a batch, as rows of numbers per image.

Shapes: B batch, L + 1 layers (0 is what enters the first block), P visual positions of an image.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasebench.curves import Array
from phasebench.measure.positions import Positions
from phasebench.measure.probe import Probe
from phasebench.models.adapter import Anatomy

Forward = Callable[[], Any]


@dataclass
class Row:
    """What the pass saw in one image.

    Attributes:
        curves: values per layer [L + 1]; attention is NaN at layer 0.
        tokens: the lens' token ids per layer, [L + 1][P].
        norms: norm-based attention [L, N] of the last text token to each position.
        layout: length and spans of the prompt.
        seconds: this image's share of its batch's pass.
    """

    curves: dict[str, Array]
    tokens: list[list[int]]
    norms: Array
    layout: dict[str, Any]
    seconds: float


def forward_options(model: torch.nn.Module) -> dict[str, Any]:
    """Arguments that spare a forward pass what nobody reads: the cache and all but one logit."""
    known = inspect.signature(model.forward).parameters
    return {"use_cache": False, **({"logits_to_keep": 1} if "logits_to_keep" in known else {})}


def plain_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> float:
    """Seconds of a forward pass without the probe, per image."""
    with torch.inference_mode():
        began = _now(inputs)
        anatomy.model(**inputs, **forward_options(anatomy.model))
        return (_now(inputs) - began) / len(inputs["input_ids"])


def probed_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor], *, lens_norm: bool = True) -> list[Row]:
    """One pass with the probe over a prepared batch."""
    positions = Positions.of(inputs, anatomy.image_token)
    options = forward_options(anatomy.model)
    return watch(anatomy, positions, lambda: anatomy.model(**inputs, **options), lens_norm=lens_norm)


def watch(anatomy: Anatomy, positions: Positions, forward: Forward, *, lens_norm: bool = True) -> list[Row]:
    """Rows of the images that ``forward`` pushes through the language model at ``positions``."""
    probe = Probe(anatomy, positions, lens_norm=lens_norm)
    began = _now(positions)
    with probe.watching():
        forward()
    values = _to_host(probe)
    seconds = (_now(positions) - began) / len(positions.last_B)
    return [_row(probe, values, index, seconds) for index in range(len(positions.last_B))]


def _to_host(probe: Probe) -> dict[str, Array]:
    """Every curve as an array [B, L + 1], copied once."""
    arrays = {}
    for layers in (probe.similarity, probe.attention):
        for name in layers[0]:
            stacked = torch.stack([layer[name].to(layers[0][name].device) for layer in layers], dim=1)
            arrays[name] = stacked.double().cpu().numpy()
    length = len(probe.similarity)
    return {name: _aligned(values, length) for name, values in arrays.items()}


def _aligned(values: Array, length: int) -> Array:
    """Pad in front with NaN: what exists from layer 1 on only."""
    missing = np.full((len(values), length - values.shape[1]), np.nan)
    return np.concatenate([missing, values], axis=1)


def _row(probe: Probe, values: Mapping[str, Array], index: int, seconds: float) -> Row:
    positions = probe.positions
    counts = positions.visual_BN.sum(1).tolist()
    start = sum(counts[:index])
    tokens = [ids[start : start + counts[index]].tolist() for ids in probe.tokens]
    real = (positions.visual_BN | positions.text_BN)[index]
    norms = torch.stack([norm_BN[index].cpu()[real.cpu()] for norm_BN in probe.norms_LBN])
    return Row(
        curves={name: array[index] for name, array in values.items()},
        tokens=tokens,
        norms=norms.double().numpy(),
        layout=positions.layout(index),
        seconds=seconds,
    )


def _now(where: Mapping[str, Tensor] | Positions) -> float:
    ids = where.last_B if isinstance(where, Positions) else where["input_ids"]
    if ids.device.type == "cuda":
        torch.cuda.synchronize(ids.device)
    return time.perf_counter()
