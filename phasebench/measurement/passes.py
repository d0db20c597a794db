"""One instrumented forward pass over a batch; its result is one row of numbers per image.

Shapes: B batch, L + 1 layers (0 is the input of the first block), N positions, P visual positions.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phasebench.catalog import CATALOG, Captions
from phasebench.curves import Array
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import LayerCurves, Probe
from phasebench.models.anatomy.adapter import Anatomy, forward_options

Forward = Callable[[], Any]


@dataclass
class Row:
    """The numbers of one image in one pass.

    Attributes:
        curves: name of a curve -> its values per layer [L + 1]; attention is NaN at layer 0.
        tokens: the lens' token ids, int32 [L + 1, P]; empty if the lens is not measured.
        norms: norm-based attention [L, N] of the last text token to each position.
        layout: length and spans of the prompt (``Positions.layout``).
        seconds: seconds of the batch's instrumented pass, divided by the number of its images.
        plain_seconds: the same for the plain pass just before it; None if that was not timed.
        from_store: whether an earlier run measured the row.
    """

    curves: dict[str, Array]
    tokens: npt.NDArray[np.int32]
    norms: Array
    layout: dict[str, Any]
    seconds: float
    plain_seconds: float | None = None
    from_store: bool = False


def plain_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> float:
    """Seconds of a forward pass without the probe, per image."""
    device = inputs["input_ids"].device
    with torch.no_grad():
        start = _synchronised_time(device)
        anatomy.model(**inputs, **_options(anatomy, inputs))
        return (_synchronised_time(device) - start) / len(inputs["input_ids"])


def probed_pass(anatomy: Anatomy, inputs: Mapping[str, Tensor], **choices: bool) -> list[Row]:
    """The rows of a batch of prepared inputs, from one pass with the probe; ``choices`` as for ``watch``."""
    positions = Positions.from_inputs(inputs, anatomy.image_token)
    options = _options(anatomy, inputs)
    return watch(anatomy, positions, lambda: anatomy.model(**inputs, **options), **choices)


def _options(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments with which the model makes no cache, and logits for the last position only, if it can."""
    options = forward_options(anatomy.model, inputs)
    parameters = inspect.signature(anatomy.model.forward).parameters
    return {**options, **({"logits_to_keep": 1} if "logits_to_keep" in parameters else {})}


def watch(
    anatomy: Anatomy,
    positions: Positions,
    forward: Forward,
    *,
    lens_norm: bool = True,
    normed_last_layer: bool = False,
) -> list[Row]:
    """The rows of the images that ``forward`` passes through the language model.

    Args:
        anatomy: the model's parts.
        positions: the visual and text positions of the images.
        forward: a function that runs one forward pass.
        lens_norm: whether the lens applies the final norm.
        normed_last_layer: whether similarity compares the last layer's states after the final norm.
    """
    probe = Probe(anatomy, positions, lens_norm=lens_norm, normed_last_layer=normed_last_layer)
    start = _synchronised_time(positions.last_B.device)
    with probe.watching():
        forward()
    curves = _host_arrays(probe)
    tokens = np.empty((0, 0), np.int32) if probe.tokens is None else probe.tokens.int().cpu().numpy()
    norms = _host_norms(probe)
    images = len(positions.last_B)
    seconds = (_synchronised_time(positions.last_B.device) - start) / images
    return [_row(positions, curves, tokens, norms, index, seconds) for index in range(images)]


def _host_arrays(probe: Probe) -> dict[str, Array]:
    """Each curve that needs no captions [B, L + 1], in the catalog's order; NaN at layers without a value."""
    shape = len(probe.positions.last_B), len(probe.anatomy.layers) + 1
    parts = probe.curves()
    arrays = {part: _host_part(parts[part], shape) for part in parts}
    return {
        curve.name: arrays[curve.part].get(curve.name, np.full(shape, np.nan))
        for curve in CATALOG
        if curve.captions is Captions.NONE
    }


def _host_part(chunks: Sequence[LayerCurves], shape: tuple[int, int]) -> dict[str, Array]:
    """All curves of one part, each [B, L + 1]; what is on one device is copied in one piece."""
    arrays: dict[str, Array] = {}
    for _, group in groupby(chunks, key=lambda chunk: chunk.device):
        together = list(group)
        names, layers = list(together[0].values), [layer for chunk in together for layer in chunk.layers]
        values_CKB = torch.cat([torch.stack(list(chunk.values.values())) for chunk in together], dim=1)
        for name, values_KB in zip(names, values_CKB.cpu().double().numpy(), strict=True):
            arrays.setdefault(name, np.full(shape, np.nan))[:, layers] = values_KB.T
    return arrays


def _host_norms(probe: Probe) -> Array:
    """The norms a_j [L, B, N]; NaN at layers whose attention is not measured."""
    norms = np.full((len(probe.anatomy.layers), *probe.positions.visual_BN.shape), np.nan)
    for layers, norms_KBN in probe.norms():
        norms[[layer - 1 for layer in layers]] = norms_KBN.cpu().double().numpy()
    return norms


def _row(
    positions: Positions,
    curves: Mapping[str, Array],
    tokens: npt.NDArray[np.int32],
    norms: Array,
    index: int,
    seconds: float,
) -> Row:
    """The row of one image of a batch, without padding."""
    start = sum(positions.counts[:index])
    return Row(
        curves={name: array[index] for name, array in curves.items()},
        tokens=tokens[:, start : start + positions.counts[index]],
        norms=norms[:, index, positions.host_masks[:, index].any(0)],
        layout=positions.layout(index),
        seconds=seconds,
    )


def _synchronised_time(device: torch.device) -> float:
    """The clock in seconds, once the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
