"""Tiny quantized checkpoints, in the layouts that the libraries write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
KEPT = ["lm_head", "re:.*vision.*", "re:.*projector.*"]
BLOCK = 32


def write(
    source: Path, folder: Path, quantization: dict[str, Any], change: Callable[[str, Tensor], Tensors]
) -> Path:
    """A copy of the checkpoint in ``source`` with other weights in the language model's layers."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    tensors: Tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        is_quantized = name.endswith("_proj.weight") and not ("vision" in name or "projector" in name)
        tensors |= change(name, tensor) if is_quantized else {name: tensor}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def compressed(source: Path, folder: Path, *, dynamic: bool) -> Path:
    """compressed-tensors with int8 weights, and with int8 states if ``dynamic``."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    weights = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False}
    states = {"num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True}
    group = {
        "targets": ["Linear"], "weights": weights, "input_activations": states if dynamic else None,
        "output_activations": None,
    }  # fmt: skip
    quantization = {
        "quant_method": "compressed-tensors", "format": "int-quantized" if dynamic else "pack-quantized",
        "quantization_status": "compressed",
        "ignore": KEPT, "config_groups": {"group_0": group},
    }  # fmt: skip

    def change(name: str, tensor: Tensor) -> Tensors:
        scale = tensor.abs().amax(1, keepdim=True) / 127
        weight = (tensor / scale).round().clamp(-128, 127).to(torch.int8)
        if dynamic:
            return {name: weight, f"{name}_scale": scale}
        shape = torch.tensor(tensor.shape)
        return {f"{name}_packed": pack_to_int32(weight, 8), f"{name}_shape": shape, f"{name}_scale": scale}

    return write(source, folder, quantization, change)


def fp8(source: Path, folder: Path) -> Path:
    """DeepSeek's layout: blocks of fp8 weights, each with a scale."""
    quantization = {
        "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic",
        "modules_to_not_convert": ["lm_head", "vision_tower", "multi_modal_projector"],
    }  # fmt: skip

    def change(name: str, tensor: Tensor) -> Tensors:
        rows, columns = tensor.shape
        blocks = tensor.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3)) / 448
        weight = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
        return {name: weight, f"{name}_scale_inv": scale}

    return write(source, folder, quantization, change)
