"""One instrumented forward pass over a batch; its result is one row of numbers per image.

Shapes: B batch, L + 1 layers (0 is the input of the first block), N positions, P visual positions.
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

from phasebench.catalog import CATALOG, Captions
from phasebench.curves import Array
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
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
    tokens = torch.stack(probe.tokens).int().cpu().numpy() if probe.tokens else np.empty((0, 0), np.int32)
    images = len(positions.last_B)
    seconds = (_synchronised_time(positions.last_B.device) - start) / images
    return [_row(probe, curves, tokens, index, seconds) for index in range(images)]


def _host_arrays(probe: Probe) -> dict[str, Array]:
    """Each curve that needs no captions [B, L + 1], in the catalog's order; NaN at layers without a value."""
    shape = len(probe.positions.last_B), len(probe.anatomy.layers) + 1
    parts = probe.curves()
    return {
        curve.name: _host_array(parts[curve.part], curve.name, shape)
        for curve in CATALOG
        if curve.captions is Captions.NONE
    }


def _host_array(by_layer: Mapping[int, Mapping[str, Tensor]], name: str, shape: tuple[int, int]) -> Array:
    """One curve [B, L + 1], copied to the host in one piece."""
    array = np.full(shape, np.nan)
    if by_layer:
        device = next(iter(by_layer.values()))[name].device
        values_BL = torch.stack([curves[name].to(device) for curves in by_layer.values()], dim=1)
        array[:, list(by_layer)] = values_BL.cpu().double().numpy()
    return array


def _row(
    probe: Probe, curves: Mapping[str, Array], tokens: npt.NDArray[np.int32], index: int, seconds: float
) -> Row:
    positions = probe.positions
    counts = positions.visual_BN.sum(1).tolist()
    start = sum(counts[:index])
    return Row(
        curves={name: array[index] for name, array in curves.items()},
        tokens=tokens[:, start : start + counts[index]],
        norms=_norms(probe, index),
        layout=positions.layout(index),
        seconds=seconds,
    )


def _norms(probe: Probe, index: int) -> Array:
    """The norms a_j [L, N] of one image without padding; NaN at layers whose attention is not measured."""
    real_N = (probe.positions.visual_BN | probe.positions.text_BN)[index].cpu()
    norms = np.full((len(probe.anatomy.layers), int(real_N.sum())), np.nan)
    for layer, norm_BN in probe.norms_by_layer.items():
        norms[layer - 1] = norm_BN[index].cpu()[real_N].double().numpy()
    return norms


def _synchronised_time(device: torch.device) -> float:
    """The clock in seconds, once the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
