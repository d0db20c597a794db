"""Faults of the language model's blocks: order, positions, mask, norms, heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import GELU

from tests.faults.kinds import ALL_BLOCKS, LENGTH, block_name, files, memory, of_first_blocks
from tests.faults.patient import Patient, block_number, edit_json, set_value

SHARES = (0.01, 0.5, 1.0)
"""Of the blocks, from the first on; the smallest is one block."""
DEPTHS = (1.0, 0.5, 0.0)
"""Relative depth of the block: a late fault moves fewer layers."""


def set_text_config(folder: Path, *keys: str, value: Any) -> None:
    set_value(folder / "config.json", "text_config", *keys, value=value)


def _first_swapped_block(depths: tuple[float, float], blocks: int) -> str:
    return f"block {min(block_number(depth, blocks) for depth in depths)}"


@memory(
    "two blocks swapped", "at depths {} and {}", ((0.6, 0.7), (0.4, 0.6), (0.2, 0.9)), _first_swapped_block
)
def swap_blocks(patient: Patient, depths: tuple[float, float]) -> None:
    first_block, second_block = (patient.block_at_depth(depth) for depth in depths)
    pairs = list(zip(first_block.parameters(), second_block.parameters(), strict=True))
    for parameter, previous_picture in [
        (parameter, previous_picture.data) for parameter, previous_picture in pairs
    ] + [(b, a.data) for a, b in pairs]:
        patient.set_parameter(parameter, previous_picture)


@memory("a block skipped", "at depth {}", DEPTHS, block_name)
def skip_block(patient: Patient, depth: float) -> None:
    block = patient.block_at_depth(depth)
    for part in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
        patient.set_parameter(part, torch.zeros_like(part))


@files("the last blocks dropped", "{} of them", (1, 2, 10), LENGTH)
def drop_last_blocks(folder: Path, count: int) -> None:
    def change(config: dict[str, Any]) -> None:
        config["text_config"]["num_hidden_layers"] -= count

    edit_json(folder / "config.json", change)


@memory(
    "a block in its successor's place",
    "at depth {}",
    (0.9, 0.5, 0.1),
    lambda d, n: f"block {block_number(d, n) + 1}",
)
def repeat_block(patient: Patient, depth: float) -> None:
    number = block_number(depth, len(patient.blocks))
    pairs = zip(patient.blocks[number].parameters(), patient.blocks[number - 1].parameters(), strict=True)
    for parameter, previous_picture in pairs:
        patient.set_parameter(parameter, previous_picture.data)


@files("RoPE's base", "100000 -> {}", (100500.0, 50000.0, 10000.0), ALL_BLOCKS)
def set_rope_base(folder: Path, value: float) -> None:
    set_text_config(folder, "rope_parameters", value={"rope_theta": value, "rope_type": "default"})


@files("RoPE scaled", "linear, {}", (1.01, 2.0, 8.0), ALL_BLOCKS)
def scale_rope(folder: Path, factor: float) -> None:
    parameters = {"rope_theta": 100000.0, "rope_type": "linear", "factor": factor}
    set_text_config(folder, "rope_parameters", value=parameters)


ROPE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float8": torch.float8_e4m3fn}


@memory("RoPE's frequencies rounded", "to {}", tuple(ROPE_DTYPES), ALL_BLOCKS)
def round_rope_frequencies(patient: Patient, name: str) -> None:
    rotary = patient.decoder.rotary_emb
    patient.set(rotary, "inv_freq", rotary.inv_freq.to(ROPE_DTYPES[name]).float())


@files("norm epsilon", "1e-5 -> {}", (1e-6, 1e-4, 1e-2), ALL_BLOCKS)
def set_norm_epsilon(folder: Path, value: float) -> None:
    set_text_config(folder, "rms_norm_eps", value=value)


@memory("norm weight off by one", "{:.0%} of the blocks", SHARES, of_first_blocks)
def add_one_to_norms(patient: Patient, share: float) -> None:
    for block in patient.first_blocks(share):
        patient.set_parameter(block.input_layernorm.weight, block.input_layernorm.weight + 1)


def _heads(weight: Tensor, patient: Patient) -> Tensor:
    return weight.view(-1, patient.blocks[0].self_attn.head_dim, weight.shape[1])


@memory("heads grouped otherwise (GQA)", "{:.0%} of the blocks", SHARES, of_first_blocks)
def reorder_query_heads(patient: Patient, share: float) -> None:
    """Query heads in an order as if keys and values were tiled, not repeated."""
    for block in patient.first_blocks(share):
        weight = block.self_attn.q_proj.weight
        heads, groups = _heads(weight, patient), block.self_attn.num_key_value_groups
        tiled = heads.view(-1, groups, *heads.shape[1:]).transpose(0, 1)
        patient.set_parameter(weight, tiled.reshape(weight.shape))


@memory("queries and keys in the other RoPE order", "{:.0%} of the blocks", SHARES, of_first_blocks)
def interleave_rope(patient: Patient, share: float) -> None:
    """As a conversion without its permutation leaves them."""
    for block in patient.first_blocks(share):
        for part in (block.self_attn.q_proj, block.self_attn.k_proj):
            heads = _heads(part.weight, patient)
            mixed = heads.view(len(heads), 2, -1, heads.shape[2]).transpose(1, 2)
            patient.set_parameter(part.weight, mixed.reshape(part.weight.shape))


@files("more heads, and narrower", "{}", (("18 of 32", 18, 6, 32), ("36 of 16", 36, 12, 16)), ALL_BLOCKS)
def narrow_heads(folder: Path, value: tuple[str, int, int, int]) -> None:
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")
    for name, count in zip(names, value[1:], strict=True):
        set_text_config(folder, name, value=count)


@files("key and value heads miscounted", "3 -> {}", (1, 9), ALL_BLOCKS)
def miscount_key_value_heads(folder: Path, count: int) -> None:
    set_text_config(folder, "num_key_value_heads", value=count)


@memory("attention's scale", "times {}", (1.01, 1.125, 8.0), ALL_BLOCKS)
def scale_attention(patient: Patient, factor: float) -> None:
    for block in patient.blocks:
        patient.set(block.self_attn, "scaling", block.self_attn.scaling * factor)


def _replace_mask(patient: Patient, block: Any, hidden_positions: Tensor | None) -> None:
    """The block's attention under a mask of ours; None hides nothing."""

    def change(_module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        length = kwargs["hidden_states"].shape[1]
        states = kwargs["hidden_states"]
        mask = torch.zeros(len(states), 1, length, length, dtype=states.dtype)
        if hidden_positions is not None:
            mask = mask.masked_fill(hidden_positions[:length, :length], torch.finfo(states.dtype).min)
        return args, {**kwargs, "attention_mask": mask}

    patient.hook_arguments(block.self_attn, change)


@memory("causal mask lost", "in {:.0%} of the blocks", SHARES, of_first_blocks)
def lose_causal_mask(patient: Patient, share: float) -> None:
    for block in patient.first_blocks(share):
        _replace_mask(patient, block, None)


@memory("attention sees a window only", "of {} positions", (40, 20, 5), ALL_BLOCKS)
def limit_attention_window(patient: Patient, width: int) -> None:
    distance = torch.arange(512)[:, None] - torch.arange(512)[None]
    for block in patient.blocks:
        _replace_mask(patient, block, (distance < 0) | (distance >= width))


@memory("another activation", "in {:.0%} of the blocks", SHARES, of_first_blocks)
def replace_activation(patient: Patient, share: float) -> None:
    for block in patient.first_blocks(share):
        patient.set(block.mlp, "act_fn", GELU())


@memory(
    "feed-forward part scaled",
    "times {}, at half depth",
    (1.001, 1.05, 2.0),
    lambda _v, n: block_name(0.5, n),
)
def scale_feed_forward(patient: Patient, factor: float) -> None:
    weight = patient.block_at_depth(0.5).mlp.down_proj.weight
    patient.set_parameter(weight, weight * factor)


@memory("states saturate, as a narrow dtype's", "at {}", (1000.0, 100.0, 10.0))
def saturate_states(patient: Patient, limit: float) -> None:
    for block in patient.blocks:
        patient.hook(block, lambda _module, _args, out: out.clamp(-limit, limit))
