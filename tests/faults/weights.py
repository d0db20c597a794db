"""Faults of single weights, of their precision, of merges, and of head and final norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.faults.kinds import ALL_BLOCKS, HEAD, block_name, memory, of_first_blocks
from tests.faults.patient import Patient, noise, random_weights_like

RELATIVE = (1e-3, 1e-2, 1e-1)
PARTS = (0.1, 0.5, 1.0)
SHARES = (0.01, 0.5, 1.0)
RANK = 8


def _middle_block_name(_value: float, blocks: int) -> str:
    return block_name(0.5, blocks)


def _block_matrices(patient: Patient, share: float) -> list[Tensor]:
    return [p for block in patient.first_blocks(share) for p in block.parameters() if p.ndim == 2]


def _round_to_integers(weight: Tensor, bits: int) -> Tensor:
    """Rounded to nearest with one scale a row."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / top
    rounded: Tensor = (weight / scale).round().clamp(-top, top) * scale
    return rounded


def _round_to_float8(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 448
    return (weight / scale).to(torch.float8_e4m3fn).to(weight.dtype) * scale


@memory("weights in int8", "{:.0%} of the blocks", SHARES, of_first_blocks)
def round_to_int8(patient: Patient, share: float) -> None:
    for weight in _block_matrices(patient, share):
        patient.set_parameter(weight, _round_to_integers(weight, 8))


@memory("weights in int4", "{:.0%} of the blocks", SHARES, of_first_blocks)
def round_to_int4(patient: Patient, share: float) -> None:
    for weight in _block_matrices(patient, share):
        patient.set_parameter(weight, _round_to_integers(weight, 4))


@memory("weights in fp8", "{:.0%} of the blocks", SHARES, of_first_blocks)
def round_to_fp8(patient: Patient, share: float) -> None:
    for weight in _block_matrices(patient, share):
        patient.set_parameter(weight, _round_to_float8(weight))


@memory("weights that went through bfloat16", "{:.0%} of the blocks", SHARES, of_first_blocks)
def round_to_bfloat16(patient: Patient, share: float) -> None:
    for weight in _block_matrices(patient, share):
        patient.set_parameter(weight, weight.bfloat16().float())


def _low_rank(weight: Tensor, relative: float, seed: int) -> Tensor:
    down = random_weights_like(weight[:RANK], seed)
    up = random_weights_like(weight[:, :RANK], seed + 1)
    delta = up @ down
    scaled: Tensor = delta * (relative * weight.norm() / delta.norm())
    return scaled


def _merge_adapter(patient: Patient, relative: float, times: float) -> None:
    for seed, block in enumerate(patient.blocks):
        for part in (block.self_attn.q_proj, block.self_attn.v_proj):
            patient.set_parameter(
                part.weight, part.weight + times * _low_rank(part.weight, relative, 2 * seed)
            )


@memory("LoRA merged twice", "adapter of {:g} relative", RELATIVE, ALL_BLOCKS)
def merge_adapter_twice(patient: Patient, relative: float) -> None:
    _merge_adapter(patient, relative, 1)


@memory("LoRA merged with the wrong sign", "adapter of {:g} relative", RELATIVE, ALL_BLOCKS)
def merge_adapter_with_wrong_sign(patient: Patient, relative: float) -> None:
    _merge_adapter(patient, relative, -2)


@memory("noise on the attention of one block", "{:g} relative", RELATIVE, _middle_block_name)
def add_noise_to_attention(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.block_at_depth(0.5).self_attn.parameters()):
        patient.set_parameter(weight, weight + noise(weight, relative, seed))


@memory("noise on the feed-forward part of one block", "{:g} relative", RELATIVE, _middle_block_name)
def add_noise_to_feed_forward(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.block_at_depth(0.5).mlp.parameters()):
        patient.set_parameter(weight, weight + noise(weight, relative, seed))


@memory("noise on the last block", "{:g} relative", RELATIVE, lambda _v, n: block_name(1.0, n))
def add_noise_to_last_block(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.blocks[-1].parameters()):
        patient.set_parameter(weight, weight + noise(weight, relative, seed))


@memory("noise on the embeddings", "{:g} relative", RELATIVE, "before the language model")
def add_noise_to_embeddings(patient: Patient, relative: float) -> None:
    weight = patient.embeddings.weight
    patient.set_parameter(weight, weight + noise(weight, relative))


@memory("averaged with another model", "{:.0%} of the way, every block", (0.01, 0.1, 0.5), ALL_BLOCKS)
def average_blocks(patient: Patient, part: float) -> None:
    for seed, weight in enumerate(_block_matrices(patient, 1.0)):
        patient.set_parameter(weight, torch.lerp(weight, random_weights_like(weight, seed), part))


@memory("NaN in one weight", "{}", ("of an unused embedding", "of the last block", "of the projector"))
def set_weight_to_nan(patient: Patient, place: str) -> None:
    weight = {
        "of an unused embedding": patient.embeddings.weight,
        "of the last block": patient.blocks[-1].mlp.down_proj.weight,
        "of the projector": patient.projections()[-1].weight,
    }[place]
    changed_weight = weight.clone()
    changed_weight[-1, 0] = float("nan")
    patient.set_parameter(weight, changed_weight)


@memory("a weight overflows", "at depth {}", (1.0, 0.5, 0.0))
def overflow_weight(patient: Patient, depth: float) -> None:
    weight = patient.block_at_depth(depth).mlp.down_proj.weight
    changed_weight = weight.clone()
    changed_weight[0, 0] = float("inf")
    patient.set_parameter(weight, changed_weight)


@memory("dropout left on", "{}", (0.01, 0.1, 0.5))
def leave_dropout_on(patient: Patient, part: float) -> None:
    for block in patient.blocks:
        patient.set(block.self_attn, "attention_dropout", part)
        patient.set(block.self_attn, "training", True)


@memory("final norm's weight dropped", "{:.0%} of the way to ones", PARTS, HEAD)
def reduce_final_norm(patient: Patient, part: float) -> None:
    weight = patient.decoder.norm.weight
    patient.set_parameter(weight, torch.lerp(weight, torch.ones_like(weight), part))


@memory("final norm's weight off", "by {}", (0.01, 0.1, 1.0), HEAD)
def offset_final_norm(patient: Patient, offset: float) -> None:
    weight = patient.decoder.norm.weight
    patient.set_parameter(weight, weight + offset)


def _untie_head(patient: Patient, weight: Tensor) -> None:
    patient.set(patient.head, "weight", nn.Parameter(weight, requires_grad=False))


@memory("output head untied and left behind", "{:g} relative", (0.01, 0.1, 1.0), HEAD)
def leave_head_behind(patient: Patient, relative: float) -> None:
    _untie_head(patient, patient.head.weight + noise(patient.head.weight, relative))


@memory("output head of another checkpoint", "{:.0%} of its rows", PARTS, HEAD)
def shift_head_rows(patient: Patient, part: float) -> None:
    rows, weight = round(part * len(patient.head.weight)), patient.head.weight.clone()
    weight[:rows] = weight[:rows].roll(1, dims=0)
    _untie_head(patient, weight)
