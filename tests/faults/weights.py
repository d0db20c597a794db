"""Faults of single weights, of their precision, of merges, and of head and final norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.faults.kinds import FIRST, HEAD, block_at, memory
from tests.faults.patient import Patient, alike, noise

RELATIVE = (1e-3, 1e-2, 1e-1)
PARTS = (0.1, 0.5, 1.0)
SHARES = (0.01, 0.5, 1.0)
RANK = 8


def _at_half(_value: float, blocks: int) -> str:
    return block_at(0.5, blocks)


def _matrices(patient: Patient, share: float) -> list[Tensor]:
    return [p for block in patient.of_blocks(share) for p in block.parameters() if p.ndim == 2]


def _whole_numbers(weight: Tensor, bits: int) -> Tensor:
    """Rounded to nearest with one scale a row."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / top
    rounded: Tensor = (weight / scale).round().clamp(-top, top) * scale
    return rounded


def _float8(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 448
    return (weight / scale).to(torch.float8_e4m3fn).to(weight.dtype) * scale


@memory("weights in int8", "{:.0%} of the blocks", SHARES, FIRST)
def int8(patient: Patient, share: float) -> None:
    for weight in _matrices(patient, share):
        patient.put(weight, _whole_numbers(weight, 8))


@memory("weights in int4", "{:.0%} of the blocks", SHARES, FIRST)
def int4(patient: Patient, share: float) -> None:
    for weight in _matrices(patient, share):
        patient.put(weight, _whole_numbers(weight, 4))


@memory("weights in fp8", "{:.0%} of the blocks", SHARES, FIRST)
def fp8(patient: Patient, share: float) -> None:
    for weight in _matrices(patient, share):
        patient.put(weight, _float8(weight))


@memory("weights that went through bfloat16", "{:.0%} of the blocks", SHARES, FIRST)
def halved(patient: Patient, share: float) -> None:
    for weight in _matrices(patient, share):
        patient.put(weight, weight.bfloat16().float())


def _low_rank(weight: Tensor, relative: float, seed: int) -> Tensor:
    down = alike(weight[:RANK], seed)
    up = alike(weight[:, :RANK], seed + 1)
    delta = up @ down
    scaled: Tensor = delta * (relative * weight.norm() / delta.norm())
    return scaled


def _adapted(patient: Patient, relative: float, times: float) -> None:
    for seed, block in enumerate(patient.blocks):
        for part in (block.self_attn.q_proj, block.self_attn.v_proj):
            patient.put(part.weight, part.weight + times * _low_rank(part.weight, relative, 2 * seed))


@memory("LoRA merged twice", "adapter of {:g} relative", RELATIVE, FIRST)
def twice(patient: Patient, relative: float) -> None:
    _adapted(patient, relative, 1)


@memory("LoRA merged with the wrong sign", "adapter of {:g} relative", RELATIVE, FIRST)
def wrong_sign(patient: Patient, relative: float) -> None:
    _adapted(patient, relative, -2)


@memory("noise on the attention of one block", "{:g} relative", RELATIVE, _at_half)
def noisy_attention(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.at(0.5).self_attn.parameters()):
        patient.put(weight, weight + noise(weight, relative, seed))


@memory("noise on the feed-forward part of one block", "{:g} relative", RELATIVE, _at_half)
def noisy_mlp(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.at(0.5).mlp.parameters()):
        patient.put(weight, weight + noise(weight, relative, seed))


@memory("noise on the last block", "{:g} relative", RELATIVE, lambda _v, n: block_at(1.0, n))
def noisy_last(patient: Patient, relative: float) -> None:
    for seed, weight in enumerate(patient.blocks[-1].parameters()):
        patient.put(weight, weight + noise(weight, relative, seed))


@memory("noise on the embeddings", "{:g} relative", RELATIVE, "before the language model")
def noisy_embeddings(patient: Patient, relative: float) -> None:
    weight = patient.embeddings.weight
    patient.put(weight, weight + noise(weight, relative))


@memory("averaged with another model", "{:.0%} of the way, every block", (0.01, 0.1, 0.5), FIRST)
def merged(patient: Patient, part: float) -> None:
    for seed, weight in enumerate(_matrices(patient, 1.0)):
        patient.put(weight, torch.lerp(weight, alike(weight, seed), part))


@memory("NaN in one weight", "{}", ("of an unused embedding", "of the last block", "of the projector"))
def not_a_number(patient: Patient, where: str) -> None:
    weight = {
        "of an unused embedding": patient.embeddings.weight,
        "of the last block": patient.blocks[-1].mlp.down_proj.weight,
        "of the projector": patient.projections()[-1].weight,
    }[where]
    spoilt = weight.clone()
    spoilt[-1, 0] = float("nan")
    patient.put(weight, spoilt)


@memory("a weight overflows", "at depth {}", (1.0, 0.5, 0.0))
def overflown(patient: Patient, depth: float) -> None:
    weight = patient.at(depth).mlp.down_proj.weight
    spoilt = weight.clone()
    spoilt[0, 0] = float("inf")
    patient.put(weight, spoilt)


@memory("dropout left on", "{}", (0.01, 0.1, 0.5))
def dropout(patient: Patient, part: float) -> None:
    for block in patient.blocks:
        patient.set(block.self_attn, "attention_dropout", part)
        patient.set(block.self_attn, "training", True)


@memory("final norm's weight dropped", "{:.0%} of the way to ones", PARTS, HEAD)
def no_final_norm(patient: Patient, part: float) -> None:
    weight = patient.decoder.norm.weight
    patient.put(weight, torch.lerp(weight, torch.ones_like(weight), part))


@memory("final norm's weight off", "by {}", (0.01, 0.1, 1.0), HEAD)
def final_norm_off(patient: Patient, by: float) -> None:
    weight = patient.decoder.norm.weight
    patient.put(weight, weight + by)


def _untied(patient: Patient, weight: Tensor) -> None:
    patient.set(patient.head, "weight", nn.Parameter(weight, requires_grad=False))


@memory("output head untied and left behind", "{:g} relative", (0.01, 0.1, 1.0), HEAD)
def behind(patient: Patient, relative: float) -> None:
    _untied(patient, patient.head.weight + noise(patient.head.weight, relative))


@memory("output head of another checkpoint", "{:.0%} of its rows", PARTS, HEAD)
def other_head(patient: Patient, part: float) -> None:
    rows, weight = round(part * len(patient.head.weight)), patient.head.weight.clone()
    weight[:rows] = weight[:rows].roll(1, dims=0)
    _untied(patient, weight)
