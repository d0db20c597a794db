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
import numpy.typing as npt
import torch
from torch import Tensor

from phasebench.catalog import ATTENTION, MAX_LOGIT, SIMILARITY
from phasebench.curves import Array
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
from phasebench.models.anatomy.adapter import Anatomy, forward_options

Forward = Callable[[], Any]


@dataclass
class Row:
    """What the pass saw in one image.

    Attributes:
        curves: values per layer [L + 1]; attention is NaN at layer 0.
        tokens: the lens' token ids, int32 [L + 1, P]; empty where no lens is read.
        norms: norm-based attention [L, N] of the last text token to each position.
        layout: length and spans of the prompt.
        seconds: this image's share of its batch's pass.
        plain: the same of the plain forward pass just before it, where that was timed.
        stored: measured by an earlier run.
    """

    curves: dict[str, Array]
    tokens: npt.NDArray[np.int32]
    norms: Array
    layout: dict[str, Any]
    seconds: float
    plain: float | None = None
    stored: bool = False


def plain_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> float:
    """Seconds of a forward pass without the probe, per image."""
    with torch.inference_mode():
        began = _now(inputs)
        anatomy.model(**inputs, **_options(anatomy, inputs))
        return (_now(inputs) - began) / len(inputs["input_ids"])


def probed_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor], *, lens_norm: bool = True) -> list[Row]:
    """One pass with the probe over a prepared batch."""
    positions = Positions.of(inputs, anatomy.image_token)
    options = _options(anatomy, inputs)
    return watch(anatomy, positions, lambda: anatomy.model(**inputs, **options), lens_norm=lens_norm)


def _options(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Spares a pass what nobody reads: the cache and all but one logit."""
    options = forward_options(anatomy.model, inputs)
    known = inspect.signature(anatomy.model.forward).parameters
    return {**options, **({"logits_to_keep": 1} if "logits_to_keep" in known else {})}


def watch(anatomy: Anatomy, positions: Positions, forward: Forward, *, lens_norm: bool = True) -> list[Row]:
    """Rows of the images that ``forward`` pushes through the language model at ``positions``."""
    probe = Probe(anatomy, positions, lens_norm=lens_norm)
    began = _now(positions)
    with probe.watching():
        forward()
    values = _to_host(probe, len(anatomy.layers) + 1)
    tokens = torch.stack(probe.tokens).int().cpu().numpy() if probe.tokens else np.empty((0, 0), np.int32)
    seconds = (_now(positions) - began) / len(positions.last_B)
    return [_row(probe, values, tokens, index, seconds) for index in range(len(positions.last_B))]


def _to_host(probe: Probe, length: int) -> dict[str, Array]:
    """Every curve as an array [B, L + 1]; NaN at layers that have no value."""
    similarity = dict(enumerate(probe.similarity))
    lens = {layer: {MAX_LOGIT: values_B} for layer, values_B in enumerate(probe.max_logit)}
    shape = len(probe.positions.last_B), length
    return {
        **{name: _stacked(similarity, name, shape) for name in SIMILARITY},
        **{name: _stacked(probe.attention, name, shape) for name in ATTENTION},
        MAX_LOGIT: _stacked(lens, MAX_LOGIT, shape),
    }


def _stacked(by_layer: Mapping[int, Mapping[str, Tensor]], name: str, shape: tuple[int, int]) -> Array:
    """One curve, copied to the host once."""
    values = np.full(shape, np.nan)
    if by_layer:
        first = next(iter(by_layer.values()))[name]
        stacked = torch.stack([layer[name].to(first.device) for layer in by_layer.values()], dim=1)
        values[:, list(by_layer)] = stacked.cpu().double().numpy()
    return values


def _row(
    probe: Probe, values: Mapping[str, Array], tokens: npt.NDArray[np.int32], index: int, seconds: float
) -> Row:
    positions = probe.positions
    counts = positions.visual_BN.sum(1).tolist()
    start = sum(counts[:index])
    return Row(
        curves={name: array[index] for name, array in values.items()},
        tokens=tokens[:, start : start + counts[index]],
        norms=_norms(probe, index),
        layout=positions.layout(index),
        seconds=seconds,
    )


def _norms(probe: Probe, index: int) -> Array:
    """Layers 1..L by the image's positions; NaN at layers that have none."""
    real_N = (probe.positions.visual_BN | probe.positions.text_BN)[index].cpu()
    norms = np.full((len(probe.anatomy.layers), int(real_N.sum())), np.nan)
    for layer, norm_BN in probe.norm_BN_of.items():
        norms[layer - 1] = norm_BN[index].cpu()[real_N].double().numpy()
    return norms


def _now(where: Mapping[str, Tensor] | Positions) -> float:
    ids = where.last_B if isinstance(where, Positions) else where["input_ids"]
    if ids.device.type != "cpu":
        torch.accelerator.synchronize(ids.device)
    return time.perf_counter()
