"""SmolLM2 as a frozen function: a minimal Llama with gradients for its input vectors alone.

The norms' weights are folded into the matrices after them, and q/k/v and gate/up are fused; the last
layer is computed only where a caption token is predicted. ``transformers`` would be 1.5 times slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from phasebench.models.bundled.builders import IMAGE
from tests.recipes.training import Loss

LAYERS, WIDTH, HEADS, GROUPS, HEAD = 30, 576, 9, 3, 64
EPSILON, THETA = 1e-5, 100_000.0
NORM_PENALTY = 1.0


@dataclass(frozen=True)
class Layer:
    """One block's matrices: fused q/k/v, attention output, fused gate/up, down."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Past:
    """Keys and values of a constant prefix, for each layer [1, G, S, E]."""

    layers: list[tuple[Tensor, Tensor]]

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2]


@dataclass(frozen=True)
class Pack:
    """A batch of token sequences: everything but the visual vectors.

    A row has a shared part and after it several captions, which do not attend to one another
    (``segment`` 0 and 1, 2, ...; -1 is padding). Where ``ids`` is the image token, ``embed`` puts
    visual vectors. ``targets`` are the next tokens where ``weights`` are not zero. ``past`` comes
    before every row, and the positions count it.
    """

    ids_BT: Tensor
    positions_BT: Tensor
    segment_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    past: Past | None = None

    def mask(self) -> Tensor:
        """The attention mask [B, T, T]: tokens attend to the shared part and their own caption so far."""
        key, query = self.segment_BT[:, None, :], self.segment_BT[:, :, None]
        size = self.ids_BT.shape[1]
        visible = torch.ones(size, size, dtype=torch.bool).tril() & ((key == 0) | (key == query))
        return visible if self.past is None else F.pad(visible, (self.past.length, 0), value=True)


class FrozenLM:
    """The language model in ``folder`` (as saved by ``transformers``)."""

    def __init__(self, folder: Path) -> None:
        raw = load_file(folder / "model.safetensors")
        self.embedding = raw["model.embed_tokens.weight"].float()
        self.final_norm = raw["model.norm.weight"].float()
        self.layers = [_layer(raw, f"model.layers.{index}.") for index in range(LAYERS)]
        frequencies = THETA ** -(torch.arange(0, HEAD, 2) / HEAD)
        angles = torch.arange(512)[:, None] * frequencies
        self.cos, self.sin = (f(torch.cat([angles, angles], 1)) for f in (torch.cos, torch.sin))
        self.norm = float(self.embedding.norm(dim=1).square().mean().sqrt())
        """Root mean square of the embeddings' norms."""

    def embed(self, ids_BT: Tensor, visual_BVD: Tensor) -> Tensor:
        """Token embeddings, with the visual vectors at the image token's positions."""
        is_image = (ids_BT == IMAGE)[..., None]
        return self.embedding[ids_BT].masked_scatter(is_image, visual_BVD)

    def hidden(self, x_BTD: Tensor, pack: Pack) -> Tensor:
        """Last hidden states after the final norm, only where a token is predicted [N, D]."""
        mask = pack.mask()[:, None]
        rotation = self._rotation(pack.positions_BT)
        for index, layer in enumerate(self.layers):
            past = pack.past.layers[index] if pack.past else None
            x_BTD = x_BTD + _attend(layer, x_BTD, mask, rotation, past)[0]
            if index < LAYERS - 1:
                x_BTD = x_BTD + _mlp(layer, x_BTD)
        x_ND = x_BTD[pack.weights_BT > 0]
        return _rms_norm(x_ND + _mlp(self.layers[-1], x_ND)) * self.final_norm

    @cache
    def past(self, ids: tuple[int, ...]) -> Past:
        """Keys and values of a constant prefix, for the tokens after it."""
        x_BTD, length = self.embedding[torch.tensor([ids])], len(ids)
        mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        rotation, layers = self._rotation(torch.arange(length)[None]), []
        for layer in self.layers:
            mixed_BTD, keys, values = _attend(layer, x_BTD, mask, rotation)
            layers.append((keys, values))
            x_BTD = x_BTD + mixed_BTD
            x_BTD = x_BTD + _mlp(layer, x_BTD)
        return Past(layers)

    def _rotation(self, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        return self.cos[positions_BT][:, None], self.sin[positions_BT][:, None]

    def loss(self, visual_BVD: Tensor, pack: Pack) -> Loss:
        """Weighted cross-entropy of the captions, and a penalty on vectors longer than embeddings are."""
        chosen = pack.weights_BT > 0
        weights_N, targets_N = pack.weights_BT[chosen], pack.targets_BT[chosen]
        logits_NV = self.hidden(self.embed(pack.ids_BT, visual_BVD), pack) @ self.embedding.T
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        loss = (losses_N * weights_N).sum() / weights_N.sum()
        norms_BV = visual_BVD.norm(dim=-1)
        hits_N = (logits_NV.detach().argmax(1) == targets_N).float()
        content = hits_N[weights_N == 1].mean().item()
        metrics = {"loss": loss.item(), "content": content, "norm": norms_BV.detach().mean().item()}
        return loss + NORM_PENALTY * F.relu(norms_BV / self.norm - 1).square().mean(), metrics


def _layer(raw: dict[str, Tensor], prefix: str) -> Layer:
    def weight(name: str) -> Tensor:
        return raw[f"{prefix}{name}.weight"].float()

    before, after = weight("input_layernorm"), weight("post_attention_layernorm")
    return Layer(
        qkv=torch.cat([weight(f"self_attn.{name}_proj") for name in "qkv"]) * before,
        out=weight("self_attn.o_proj"),
        gate_up=torch.cat([weight("mlp.gate_proj"), weight("mlp.up_proj")]) * after,
        down=weight("mlp.down_proj"),
    )


def _rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (WIDTH,), eps=EPSILON)


def _rotate(x_BHTE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * rotation[0] + torch.cat([-second, first], -1) * rotation[1]


def _attend(
    layer: Layer,
    x_BTD: Tensor,
    mask: Tensor,
    rotation: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The attention's output, and the new tokens' keys and values."""
    batch, length, _ = x_BTD.shape
    heads = F.linear(_rms_norm(x_BTD), layer.qkv).view(batch, length, -1, HEAD).transpose(1, 2)
    query, key, value = heads[:, :HEADS], heads[:, HEADS:-GROUPS], heads[:, -GROUPS:]
    query, key = _rotate(query, rotation), _rotate(key, rotation)
    new = key, value
    if past is not None:
        old_key, old_value = (old.expand(batch, -1, -1, -1) for old in past)
        key, value = torch.cat([old_key, key], 2), torch.cat([old_value, value], 2)
    query = query.reshape(batch, GROUPS, -1, HEAD)  # the heads that share a key, one below the other
    scores = (query @ key.transpose(-1, -2)).view(batch, HEADS, length, -1) * HEAD**-0.5
    weights = scores.masked_fill(~mask, -1e9).softmax(-1).view(batch, GROUPS, HEADS // GROUPS * length, -1)
    mixed = (weights @ value).view(batch, HEADS, length, HEAD).transpose(1, 2)
    return F.linear(mixed.reshape(batch, length, WIDTH), layer.out), *new


def _mlp(layer: Layer, x: Tensor) -> Tensor:
    gate, up = F.linear(_rms_norm(x), layer.gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, layer.down)
