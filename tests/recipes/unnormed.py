"""InstructBLIP's ViT, which lacks CLIP's first norm: started from the trained tower and made like it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, InstructBlipVisionConfig, InstructBlipVisionModel

from phasebench.models.bundled.builders import VISION
from tests.recipes.training import Loss
from tests.recipes.vision import GRID, WIDTH, batch_of, pixels

EYES = (
    ("blip.eyes", 0.0, 200, 6e-4),
    ("blip.places", 0.1, 80, 6e-4),
    ("blip.placed", 1.0, 140, 1e-3),
)
"""Stages of the ViT: name, weight of the place's loss, steps, rate."""


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
    place_PD = old["embeddings.position_embedding.weight"]
    place_PD = place_PD - place_PD.mean(1, keepdim=True)
    new["embeddings.position_embedding"] = (place_PD * scale + shift_D)[None]
    first_D = old["embeddings.class_embedding"]
    new["embeddings.class_embedding"] = ((first_D - first_D.mean()) * scale)[None, None]
    vision.load_state_dict(new)
    return vision


class Vision(nn.Module):
    """The ViT, and a head that tells where a patch is."""

    def __init__(self, vision: InstructBlipVisionModel) -> None:
        super().__init__()
        self.vision = vision
        self.place = nn.Linear(WIDTH, GRID * GRID)

    def forward(self, values: Tensor) -> Tensor:
        """Normalised outputs, the first token's too [B, 1 + P, D]."""
        seen: Tensor = self.vision(pixel_values=values).last_hidden_state
        return seen


def likeness(model: Vision, tower: nn.Module, placed: float, size: int = 48) -> Callable[[int], Loss]:
    """Squared distance between the two towers' normalised outputs, and ``placed`` times the place's loss.

    The trained tower's outputs hardly tell where a patch is, and the queries could not look there.
    """

    def loss_of(step: int) -> Loss:
        values = pixels(batch_of(step, size, seed=4))
        with torch.no_grad():
            wanted_BPD = F.layer_norm(tower(pixel_values=values).last_hidden_state, (WIDTH,))
        seen_BPD = model(values)
        alike = (seen_BPD - wanted_BPD).square().mean()
        place_BPK = model.place(seen_BPD[:, 1:])
        wanted_BP = torch.arange(GRID * GRID).expand(size, -1)
        place = F.cross_entropy(place_BPK.flatten(0, 1), wanted_BP.flatten())
        return alike + placed * place, {"alike": alike.item(), "place": place.item()}

    return loss_of
