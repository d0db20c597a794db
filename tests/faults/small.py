"""Small faults of one block, and faults of every layer: a step of training, precision, pruning, noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from tests.faults.kinds import ALL_BLOCKS, BLIP, block_name, memory
from tests.faults.patient import Patient, noise

DEPTH = 0.5
"""Relative depth of the block that has a small fault."""
RELATIVE = (1e-4, 1e-3, 1e-2)
MANTISSA_BITS = {"TF32": 10, "bfloat16": 7}
OPTIMIZERS = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}


def _middle_block(_severity: Any, blocks: int) -> str:
    return block_name(DEPTH, blocks)


def _weights(patient: Patient, usual: bool, count: int) -> tuple[Tensor, Tensor]:
    """The output matrix of a middle block's MLP, flat, and the positions of weights of it.

    These are its largest weights, or those whose sizes are next to the median.
    """
    flat = patient.block_at_depth(DEPTH).mlp.down_proj.weight.detach().flatten()
    order = flat.abs().argsort(descending=True, stable=True)
    start = len(order) // 2 if usual else 0
    return flat.clone(), order[start : start + count]


def _replace_weights(patient: Patient, flat: Tensor) -> None:
    weight = patient.block_at_depth(DEPTH).mlp.down_proj.weight
    patient.set_parameter(weight, flat.view_as(weight))


def _zero(patient: Patient, usual: bool, count: int) -> None:
    flat, positions = _weights(patient, usual, count)
    _replace_weights(patient, flat.index_fill(0, positions, 0.0))


def _flip(patient: Patient, usual: bool, bit: int) -> None:
    """Flip a bit of one weight in float32: bit 22 is in the mantissa, 24 and 25 are in the exponent."""
    flat, position = _weights(patient, usual, 1)
    bits = flat.view(torch.int32)
    bits[position] ^= 1 << bit
    _replace_weights(patient, flat)


@memory("weights set to zero", "the {} largest of one matrix", (1, 32), _middle_block)
def zero_largest_weights(patient: Patient, count: int) -> None:
    _zero(patient, False, count)


@memory("usual weights set to zero", "{} of one matrix", (1, 8, 64), _middle_block)
def zero_usual_weights(patient: Patient, count: int) -> None:
    _zero(patient, True, count)


@memory("a bit flipped", "bit {} of a matrix's largest weight", (22, 24), _middle_block)
def flip_bit_of_largest_weight(patient: Patient, bit: int) -> None:
    _flip(patient, False, bit)


@memory("a bit flipped in a usual weight", "bit {}", (22, 24, 25), _middle_block)
def flip_bit_of_usual_weight(patient: Patient, bit: int) -> None:
    _flip(patient, True, bit)


@memory(
    "trained further",
    "{} of {} at {:g}",
    (("1 step", "AdamW", 1e-6), ("10 steps", "SGD", 1e-3), ("10 steps", "AdamW", 1e-5)),
    ALL_BLOCKS,
)
def train_further(patient: Patient, value: tuple[str, str, float]) -> None:
    """Of all weights, on the prompt itself with one synthetic picture."""
    steps, optimizer_name, rate = value
    parameters = list(patient.model.parameters())
    for parameter in parameters:
        patient.set_parameter(parameter, parameter.detach().clone())
        patient.set(parameter, "requires_grad", True)
    optimizer = OPTIMIZERS[optimizer_name](parameters, lr=rate)
    inputs = patient.loaded.inputs([Image.linear_gradient("L").convert("RGB")])
    with torch.enable_grad():
        for _ in range(int(steps.partition(" ")[0])):
            optimizer.zero_grad()
            patient.model(**inputs, labels=inputs["input_ids"]).loss.backward()
            optimizer.step()
    optimizer.zero_grad()


def _linear_layers(patient: Patient) -> Iterator[nn.Linear]:
    """Every linear layer but the output head, whose weight is the embeddings'."""
    for module in patient.model.modules():
        if isinstance(module, nn.Linear) and module is not patient.head:
            yield module


@memory("weights decayed", "by {:g} of each", (1e-6, 1e-5, 1e-4), ALL_BLOCKS)
def decay_weights(patient: Patient, share: float) -> None:
    for layer in _linear_layers(patient):
        patient.set_parameter(layer.weight, (1 - share) * layer.weight)


@memory("small weights pruned", "{:.1%} of every matrix", (0.001, 0.01, 0.1), ALL_BLOCKS, BLIP)
@memory("small weights pruned", "{:.1%} of every matrix", (0.001, 0.01, 0.1), ALL_BLOCKS)
def prune_weights(patient: Patient, share: float) -> None:
    for layer in _linear_layers(patient):
        sizes = layer.weight.abs().flatten()
        threshold = sizes.kthvalue(max(1, round(share * len(sizes)))).values
        patient.set_parameter(layer.weight, layer.weight.where(layer.weight.abs() > threshold, 0.0))


def round_mantissa(values: Tensor, bits: int) -> Tensor:
    """Float32 values rounded to so many bits of mantissa, as a narrow format's inputs are."""
    dropped = 23 - bits
    whole = values.float().contiguous().view(torch.int32) + (1 << (dropped - 1))
    return ((whole >> dropped) << dropped).view(torch.float32)


@memory("inputs of matrix products rounded", "to {}", tuple(MANTISSA_BITS), ALL_BLOCKS, BLIP)
@memory("inputs of matrix products rounded", "to {}", tuple(MANTISSA_BITS), ALL_BLOCKS)
def round_inputs(patient: Patient, name: str) -> None:
    """Weights and activations of every linear layer."""
    bits = MANTISSA_BITS[name]

    def change(_module: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        return (round_mantissa(args[0], bits), *args[1:]), kwargs

    for layer in _linear_layers(patient):
        patient.set_parameter(layer.weight, round_mantissa(layer.weight, bits))
        patient.hook_arguments(layer, change)


@memory("noise on every layer", "{:g} relative", RELATIVE, ALL_BLOCKS, BLIP)
@memory("noise on every layer", "{:g} relative", RELATIVE, ALL_BLOCKS)
def add_noise_to_every_layer(patient: Patient, relative: float) -> None:
    for seed, layer in enumerate(_linear_layers(patient)):
        patient.set_parameter(layer.weight, layer.weight + noise(layer.weight, relative, seed))
