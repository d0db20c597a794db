"""Faults of the language model's blocks: order, positions, mask, norms, heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import GELU

from tests.faults.kinds import FIRST, LENGTH, block_at, files, memory
from tests.faults.patient import Patient, edit, place, setting

SHARES = (0.01, 0.5, 1.0)
"""Of the blocks, from the first on; the smallest is one block."""
LAST_FIRST = (1.0, 0.5, 0.0)
"""Relative depth of the block: a late fault moves fewer layers."""


def text(folder: Path, *keys: str, value: Any) -> None:
    setting(folder / "config.json", "text_config", *keys, value=value)


def _swap_at(value: tuple[float, float], blocks: int) -> str:
    return f"block {min(place(depth, blocks) for depth in value)}"


@memory("two blocks swapped", "at depths {} and {}", ((0.6, 0.7), (0.4, 0.6), (0.2, 0.9)), _swap_at)
def swapped(patient: Patient, depths: tuple[float, float]) -> None:
    first, second = (patient.at(depth) for depth in depths)
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    for one, other in [(one, other.data) for one, other in pairs] + [(b, a.data) for a, b in pairs]:
        patient.put(one, other)


@memory("a block skipped", "at depth {}", LAST_FIRST, block_at)
def skipped(patient: Patient, depth: float) -> None:
    block = patient.at(depth)
    for part in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
        patient.put(part, torch.zeros_like(part))


@files("the last blocks dropped", "{} of them", (1, 2, 10), LENGTH)
def dropped(folder: Path, count: int) -> None:
    def change(found: dict[str, Any]) -> None:
        found["text_config"]["num_hidden_layers"] -= count

    edit(folder / "config.json", change)


@memory(
    "a block in its successor's place",
    "at depth {}",
    (0.9, 0.5, 0.1),
    lambda d, n: f"block {place(d, n) + 1}",
)
def doubled(patient: Patient, depth: float) -> None:
    number = place(depth, len(patient.blocks))
    pairs = zip(patient.blocks[number].parameters(), patient.blocks[number - 1].parameters(), strict=True)
    for one, other in pairs:
        patient.put(one, other.data)


@files("RoPE's base", "100000 -> {}", (100500.0, 50000.0, 10000.0), FIRST)
def theta(folder: Path, value: float) -> None:
    text(folder, "rope_parameters", value={"rope_theta": value, "rope_type": "default"})


@files("RoPE scaled", "linear, {}", (1.01, 2.0, 8.0), FIRST)
def stretched(folder: Path, factor: float) -> None:
    found = {"rope_theta": 100000.0, "rope_type": "linear", "factor": factor}
    text(folder, "rope_parameters", value=found)


ROUNDED = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float8": torch.float8_e4m3fn}


@memory("RoPE's frequencies rounded", "to {}", tuple(ROUNDED), FIRST)
def coarse(patient: Patient, name: str) -> None:
    rotary = patient.decoder.rotary_emb
    patient.set(rotary, "inv_freq", rotary.inv_freq.to(ROUNDED[name]).float())


@files("norm epsilon", "1e-5 -> {}", (1e-6, 1e-4, 1e-2), FIRST)
def epsilon(folder: Path, value: float) -> None:
    text(folder, "rms_norm_eps", value=value)


@memory("norm weight off by one", "{:.0%} of the blocks", SHARES, FIRST)
def one_more(patient: Patient, share: float) -> None:
    for block in patient.of_blocks(share):
        patient.put(block.input_layernorm.weight, block.input_layernorm.weight + 1)


def _heads(weight: Tensor, patient: Patient) -> Tensor:
    return weight.view(-1, patient.blocks[0].self_attn.head_dim, weight.shape[1])


@memory("heads grouped otherwise (GQA)", "{:.0%} of the blocks", SHARES, FIRST)
def grouped(patient: Patient, share: float) -> None:
    """Query heads in an order as if keys and values were tiled, not repeated."""
    for block in patient.of_blocks(share):
        weight = block.self_attn.q_proj.weight
        heads, groups = _heads(weight, patient), block.self_attn.num_key_value_groups
        tiled = heads.view(-1, groups, *heads.shape[1:]).transpose(0, 1)
        patient.put(weight, tiled.reshape(weight.shape))


@memory("queries and keys in the other RoPE order", "{:.0%} of the blocks", SHARES, FIRST)
def interleaved(patient: Patient, share: float) -> None:
    """As a conversion without its permutation leaves them."""
    for block in patient.of_blocks(share):
        for part in (block.self_attn.q_proj, block.self_attn.k_proj):
            heads = _heads(part.weight, patient)
            mixed = heads.view(len(heads), 2, -1, heads.shape[2]).transpose(1, 2)
            patient.put(part.weight, mixed.reshape(part.weight.shape))


@files("more heads, and narrower", "{}", (("18 of 32", 18, 6, 32), ("36 of 16", 36, 12, 16)), FIRST)
def narrowed(folder: Path, value: tuple[str, int, int, int]) -> None:
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")
    for name, count in zip(names, value[1:], strict=True):
        text(folder, name, value=count)


@files("key and value heads miscounted", "3 -> {}", (1, 9), FIRST)
def miscounted(folder: Path, count: int) -> None:
    text(folder, "num_key_value_heads", value=count)


@memory("attention's scale", "times {}", (1.01, 1.125, 8.0), FIRST)
def rescaled(patient: Patient, by: float) -> None:
    for block in patient.blocks:
        patient.set(block.self_attn, "scaling", block.self_attn.scaling * by)


def _masked(patient: Patient, block: Any, hidden: Tensor | None) -> None:
    """The block's attention under a mask of ours; None hides nothing."""

    def change(_module: Any, args: Any, given: dict[str, Any]) -> Any:
        length = given["hidden_states"].shape[1]
        states = given["hidden_states"]
        mask = torch.zeros(len(states), 1, length, length, dtype=states.dtype)
        if hidden is not None:
            mask = mask.masked_fill(hidden[:length, :length], torch.finfo(states.dtype).min)
        return args, {**given, "attention_mask": mask}

    patient.before(block.self_attn, change)


@memory("causal mask lost", "in {:.0%} of the blocks", SHARES, FIRST)
def seen_ahead(patient: Patient, share: float) -> None:
    for block in patient.of_blocks(share):
        _masked(patient, block, None)


@memory("attention sees a window only", "of {} positions", (40, 20, 5), FIRST)
def windowed(patient: Patient, width: int) -> None:
    apart = torch.arange(512)[:, None] - torch.arange(512)[None]
    for block in patient.blocks:
        _masked(patient, block, (apart < 0) | (apart >= width))


@memory("another activation", "in {:.0%} of the blocks", SHARES, FIRST)
def activated(patient: Patient, share: float) -> None:
    for block in patient.of_blocks(share):
        patient.set(block.mlp, "act_fn", GELU())


@memory(
    "feed-forward part scaled", "times {}, at half depth", (1.001, 1.05, 2.0), lambda _v, n: block_at(0.5, n)
)
def mlp_scaled(patient: Patient, by: float) -> None:
    weight = patient.at(0.5).mlp.down_proj.weight
    patient.put(weight, weight * by)


@memory("states saturate, as a narrow dtype's", "at {}", (1000.0, 100.0, 10.0))
def saturated(patient: Patient, limit: float) -> None:
    for block in patient.blocks:
        patient.hook(block, lambda _module, _args, out: out.clamp(-limit, limit))
