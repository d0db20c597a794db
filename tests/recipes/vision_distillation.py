"""Distilling the trained CLIP tower into InstructBLIP's ViT, which lacks CLIP's first norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, InstructBlipVisionConfig, InstructBlipVisionModel

from phasebench.models.bundled.builders import VISION
from tests.recipes.training import Loss
from tests.recipes.vision import GRID, WIDTH, batch_of, pixels

STAGES = (
    ("blip.eyes", 0.0, 200, 6e-4),
    ("blip.places", 0.1, 80, 6e-4),
    ("blip.placed", 1.0, 140, 1e-3),
)
"""Name, weight of the position loss, steps, and learning rate. The bundled manifest records these names."""


@torch.no_grad()
def new_vision(tower: CLIPVisionModel) -> InstructBlipVisionModel:
    """InstructBLIP's ViT with the tower's weights, its first norm folded in at its mean scale."""
    vision = InstructBlipVisionModel(InstructBlipVisionConfig(**VISION))
    old = tower.state_dict()
    new = vision.state_dict()
    for key in new:
        if key.startswith("encoder") and "self_attn" not in key:
            new[key] = old[key]
    for layer in range(tower.config.num_hidden_layers):
        attention = f"encoder.layers.{layer}.self_attn."
        for kind in ("weight", "bias"):
            parts = [old[f"{attention}{name}_proj.{kind}"] for name in "qkv"]
            new[f"{attention}qkv.{kind}"] = torch.cat(parts)
            new[f"{attention}projection.{kind}"] = old[f"{attention}out_proj.{kind}"]
    gain_D, shift_D = old["pre_layrnorm.weight"], old["pre_layrnorm.bias"]
    embedded_BPD = tower.embeddings(pixels(batch_of(0, 64)))
    scale = gain_D / embedded_BPD.std(-1).mean()
    kernel_DCHW = old["embeddings.patch_embedding.weight"]
    kernel_DCHW = kernel_DCHW - kernel_DCHW.mean(0)
    new["embeddings.patch_embedding.weight"] = kernel_DCHW * scale[:, None, None, None]
    new["embeddings.patch_embedding.bias"] = torch.zeros(WIDTH)
    position_PD = old["embeddings.position_embedding.weight"]
    position_PD = position_PD - position_PD.mean(1, keepdim=True)
    new["embeddings.position_embedding"] = (position_PD * scale + shift_D)[None]
    first_D = old["embeddings.class_embedding"]
    new["embeddings.class_embedding"] = ((first_D - first_D.mean()) * scale)[None, None]
    vision.load_state_dict(new)
    return vision


class VisionWithPositions(nn.Module):
    """The ViT, and a head that predicts a patch's position."""

    def __init__(self, vision: InstructBlipVisionModel) -> None:
        super().__init__()
        self.vision = vision
        self.position = nn.Linear(WIDTH, GRID * GRID)

    def forward(self, values: Tensor) -> Tensor:
        """Normalised outputs, including the class token's [B, 1 + P, D]."""
        outputs: Tensor = self.vision(pixel_values=values).last_hidden_state
        return outputs


def distillation_loss(
    model: VisionWithPositions, tower: nn.Module, position_weight: float, size: int = 48
) -> Callable[[int], Loss]:
    """Squared distance between the two towers' normalised outputs, plus the weighted position loss.

    The trained tower's outputs say little about a patch's position, and the queries could not attend by it.
    """

    def loss_of(step: int) -> Loss:
        values = pixels(batch_of(step, size, seed=4))
        with torch.no_grad():
            target_BPD = F.layer_norm(tower(pixel_values=values).last_hidden_state, (WIDTH,))
        output_BPD = model(values)
        distance = (output_BPD - target_BPD).square().mean()
        position_BPK = model.position(output_BPD[:, 1:])
        target_BP = torch.arange(GRID * GRID).expand(size, -1)
        position_loss = F.cross_entropy(position_BPK.flatten(0, 1), target_BP.flatten())
        metrics = {"alike": distance.item(), "place": position_loss.item()}
        return distance + position_weight * position_loss, metrics

    return loss_of
