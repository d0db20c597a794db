"""Models and inputs that are timed: a llava of any size with random weights, and the bundled models.

Shapes: B batch, N positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip import CLIPVisionConfig

from phasebench.datasets.sample import Sample
from phasebench.measurement.positions import Positions
from phasebench.models.anatomy.adapter import Anatomy, dissect

PATCH = 14


@dataclass(frozen=True)
class Size:
    """A llava's language model and prompt; ``visual`` must be a square."""

    layers: int = 8
    width: int = 512
    visual: int = 576
    text: int = 40
    vocabulary: int = 32000
    batch: int = 1


@dataclass
class Workload:
    """A model, taken apart, and one batch for it."""

    name: str
    anatomy: Anatomy
    inputs: dict[str, Tensor]

    @property
    def positions(self) -> Positions:
        return Positions.from_inputs(self.inputs, self.anatomy.image_token)

    def without(self, *parts: str) -> Anatomy:
        """The anatomy without the curves of these parts ('lens', 'similarity')."""
        return replace(self.anatomy, unmeasured=dict.fromkeys(parts, "not timed"))


def llava(size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Workload:
    """A llava from transformers' own classes, with random weights and a vision model of almost no cost."""
    torch.manual_seed(0)
    side = round(size.visual**0.5) * PATCH
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        image_size=side, patch_size=PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.layers, num_attention_heads=size.width // 64, max_position_embeddings=4096,
    )  # fmt: skip
    image = size.vocabulary - 1
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=image, vision_feature_layer=-1
    )
    model: Any = LlavaForConditionalGeneration(config).eval().requires_grad_(False).to(device, dtype)
    words = torch.randint(3, image, (size.batch, size.text))
    row = [words[:, :5], torch.full((size.batch, size.visual), image), words[:, 5:]]
    ids_BN = torch.cat(row, dim=1).to(device)
    pixels = torch.randn(size.batch, 3, side, side).to(device, dtype)
    inputs = {"input_ids": ids_BN, "attention_mask": torch.ones_like(ids_BN), "pixel_values": pixels}
    return Workload(f"llava {size.layers} x {size.width}", dissect(model, inputs), inputs)


def bundled_scenes(cache: Path) -> list[Sample]:
    """The bundled scenes, in their order."""
    from phasebench.datasets.named_datasets import bundled_datasets

    return next(dataset for dataset in bundled_datasets() if dataset.name == "scenes").read(cache)


def bundled(name: str, cache: Path) -> Workload:
    """A bundled model on one scene."""
    from phasebench.datasets.scenes import render, scenes
    from tests.support.checkpoints import load_tiny

    loaded = load_tiny(name, cache)
    inputs = loaded.inputs([render(scene) for scene in islice(scenes("held_out", 7), 1)])
    return Workload(name, dissect(loaded.model, inputs), inputs)


def workload_makers(cache: Path) -> list[Any]:
    """For each workload of the first table, a function that makes it."""
    return [
        partial(llava, Size()),
        *(partial(bundled, f"smol-{name}", cache) for name in ("llava", "instructblip")),
    ]
