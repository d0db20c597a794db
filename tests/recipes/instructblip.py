"""smol-instructblip: a ViT without pre-norm, a Q-Former with one query for each cell of the image.

``eyes`` distils the trained tower into InstructBLIP's ViT, which lacks CLIP's first norm, and teaches it
the positions of patches; ``cells`` teaches each query to name the object in its cell, without the language
model; ``scenes`` and ``polish`` train Q-Former and projection by caption loss through the frozen language
model, ``long`` the encoder too. The projection starts as the least-squares map from the queries' outputs to
smol-llava's visual vectors. On one of two busy cores that took 6, 4, 24 and 49 minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
)

from phasebench.datasets.scenes import BACKGROUNDS, Scene
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.builders import QFORMER, QUERIES, question_tokenizer
from tests.recipes import llava, text
from tests.recipes.frozen import WIDTH as LM_WIDTH
from tests.recipes.frozen import FrozenLM
from tests.recipes.patches import owners
from tests.recipes.training import Loss, Schedule, train
from tests.recipes.vision import GRID, WIDTH, batch_of, pixels
from tests.recipes.vision_distillation import STAGES, VisionWithPositions, distillation_loss, new_vision

VOCABULARY = "smol-instructblip.qformer.json"
STEPS = 700
"""Steps of the last stage."""
SIDE = 4
"""Queries per row: query ``n`` is responsible for cell ``n`` of a grid of so many rows and columns."""


class Queries(nn.Module):
    """The modules between the ViT and the language model, and the heads that only ``cells`` needs."""

    def __init__(self, question_ids: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.qformer = InstructBlipQFormerModel(InstructBlipQFormerConfig(**QFORMER, vocab_size=vocabulary))
        self.query_tokens = nn.Parameter(torch.randn(1, QUERIES, WIDTH) * 0.5)
        self.language_projection = nn.Linear(WIDTH, LM_WIDTH)
        self.heads = nn.Linear(WIDTH, len(NOUNS) + 1 + len(BACKGROUNDS) + 3)
        self.register_buffer("question", torch.tensor([list(question_ids)]), persistent=False)

    def forward(self, features_BPD: Tensor) -> Tensor:
        """The queries' outputs [B, Q, D]."""
        batch = len(features_BPD)
        ids_BL = self.get_buffer("question").expand(batch, -1)
        mask = torch.ones(batch, QUERIES + ids_BL.shape[1], dtype=torch.long)
        out = self.qformer(
            input_ids=ids_BL,
            attention_mask=mask,
            query_embeds=self.query_tokens.expand(batch, -1, -1),
            encoder_hidden_states=features_BPD,
            encoder_attention_mask=torch.ones(features_BPD.shape[:2], dtype=torch.long),
        ).last_hidden_state
        outputs_BQD: Tensor = out[:, :QUERIES]
        return outputs_BQD


@torch.no_grad()
def initialise_attention(queries: Queries, model: VisionWithPositions, sharpness: float = 1.5) -> None:
    """Let the first cross-attention attend to each query's own cell from the start.

    Keys encode a patch's position, by the ViT's position head; query vectors encode the patches that the cell
    covers. From random weights the queries hardly learn to attend in the affordable number of steps.
    """
    position_PK = model.position.weight - model.position.weight.mean(0)
    edges_C = torch.arange(SIDE + 1) / SIDE * GRID
    low_G = torch.arange(GRID)
    high_CG = torch.minimum(edges_C[1:, None], low_G + 1)
    overlap_CG = (high_CG - torch.maximum(edges_C[:-1, None], low_G)).clamp(0)
    member_QP = torch.einsum("ag,bh->abgh", overlap_CG, overlap_CG).flatten(0, 1).flatten(1)
    attention = queries.qformer.encoder.layer[0].crossattention.attention
    heads, width = attention.num_attention_heads, attention.attention_head_size
    tokens_QD = F.layer_norm(queries.query_tokens[0], (WIDTH,))
    query_PD = sharpness * width**0.5 * (torch.linalg.pinv(tokens_QD) @ member_QP).T
    for linear, rows in ((attention.query, query_PD), (attention.key, position_PK)):
        linear.weight.zero_()
        for head in range(heads):
            linear.weight[head * width : head * width + GRID * GRID] = rows
        linear.bias.zero_()


def cell_targets(batch: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Noun of each cell [B, Q] (``len(NOUNS)``: none), geometry [B, Q, 3], background [B, Q]."""
    names = list(BACKGROUNDS)
    nouns, geometry = [], []
    for scene in batch:
        owner_Q = owners(scene, SIDE, 0.2)
        nouns.append(np.array([*map(NOUNS.index, scene.nouns), len(NOUNS)])[owner_Q])
        boxes = [[*thing.centre, thing.side] for thing in scene.things]
        geometry.append(np.array([*boxes, [0, 0, 0]])[owner_Q] / 48 - 1)
    grounds = torch.tensor([names.index(scene.background) for scene in batch])
    places_BQE = torch.from_numpy(np.stack(geometry)).float()
    return torch.from_numpy(np.stack(nouns)), places_BQE, grounds[:, None].expand(-1, QUERIES)


def cells(queries: Queries, vision: nn.Module, size: int = 48) -> Callable[[int], Loss]:
    """Loss: each query predicts noun, position and size of the object in its cell, and the background."""
    sections = [len(NOUNS) + 1, len(BACKGROUNDS), 3]

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 3, 4), seed=5)
        with torch.no_grad():
            features_BPD = vision(pixel_values=pixels(batch)).last_hidden_state
        noun_BQK, ground_BQK, place_BQE = queries.heads(queries(features_BPD)).split(sections, dim=-1)
        nouns_BQ, geometry_BQE, grounds_BQ = cell_targets(batch)
        occupied = nouns_BQ < len(NOUNS)
        noun_loss = F.cross_entropy(noun_BQK.flatten(0, 1), nouns_BQ.flatten())
        ground_loss = F.cross_entropy(ground_BQK.flatten(0, 1), grounds_BQ.flatten())
        place_loss = (place_BQE - geometry_BQE)[occupied].abs().mean()
        accuracy = (noun_BQK.argmax(-1) == nouns_BQ)[occupied].float().mean().item()
        loss = noun_loss + 0.1 * ground_loss + 0.2 * place_loss
        return loss, {"loss": loss.item(), "cells": accuracy, "place": place_loss.item()}

    return loss_of


@dataclass(frozen=True)
class Course:
    """The models that the stages with the language model train and use."""

    lm: FrozenLM
    tokenizer: Tokenizer
    vision: nn.Module
    queries: Queries

    def outputs(self, batch: Sequence[Scene]) -> Tensor:
        """The queries' outputs for the images [B, Q, D]."""
        out: Tensor = self.queries(self.vision(pixel_values=pixels(batch)).last_hidden_state)
        return out


def scene_loss(
    course: Course, emphasis: text.Emphasis, seed: int, size: int = 8, captions: int = 2
) -> Callable[[int], Loss]:
    """Caption loss on whole scenes: all queries, ``captions`` captions of each scene."""
    ids = text.prompt_ids(course.tokenizer, text.INSTRUCTION, QUERIES)

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 2, 3), seed=seed)
        visual_BQD = course.queries.language_projection(course.outputs(batch))
        rows = text.sample_captions(course.tokenizer, batch, step, captions, emphasis)
        return course.lm.loss(visual_BQD, text.pack(ids, rows))

    return loss_of


@torch.no_grad()
def start_projection(course: Course, codes_KD: Tensor, grounds_KD: Tensor, batches: int = 12) -> None:
    """Start the projection as least squares from the queries' outputs to a code of their cell's object.

    ``codes_KD`` are smol-llava's mean visual vectors of the nouns, ``grounds_KD`` of background patches.
    """
    features, outputs = [], []
    for step in range(batches):
        batch = batch_of(step, 64, (1, 2, 3), seed=9)
        nouns_BQ, _, grounds_BQ = cell_targets(batch)
        is_background = (nouns_BQ == len(NOUNS))[..., None]
        outputs.append(
            torch.where(is_background, grounds_KD[grounds_BQ], codes_KD[nouns_BQ.clamp(max=len(NOUNS) - 1)])
        )
        features.append(course.outputs(batch))
    inputs_ND = F.pad(torch.cat(features).flatten(0, 1), (0, 1), value=1.0)
    outputs_ND = torch.cat(outputs).flatten(0, 1)
    gram_DD = inputs_ND.T @ inputs_ND
    ridge_DD = 1e-4 * gram_DD.diagonal().mean() * torch.eye(len(gram_DD))
    solved_DD = torch.linalg.solve(gram_DD + ridge_DD, inputs_ND.T @ outputs_ND)
    course.queries.language_projection.weight.copy_(solved_DD[:-1].T)
    course.queries.language_projection.bias.copy_(solved_DD[-1])


def train_all(folder: Path, language_model: Path) -> Course:
    """All stages, smol-llava's first ones too, from scratch or resumed from checkpoints in ``folder``."""
    teacher = llava.train_all(folder, language_model, last_stages=False)
    vision = new_vision(teacher.encoder.tower)
    model = VisionWithPositions(vision)
    for stage, position_weight, steps, rate in STAGES:
        loss = distillation_loss(model, teacher.encoder.tower, position_weight)
        train(stage, model, loss, Schedule(steps, rate, 10), folder)
    vocabulary = folder / VOCABULARY
    if not vocabulary.exists():  # training it again gives its pieces other ids
        text.question_vocabulary().save(str(vocabulary))
    tokenizer = question_tokenizer(vocabulary)
    torch.manual_seed(0)
    queries = Queries(tokenizer(text.INSTRUCTION).input_ids, len(tokenizer))
    course = Course(teacher.lm, teacher.tokenizer, vision.requires_grad_(False), queries)
    queries.language_projection.requires_grad_(False)
    initialise_attention(queries, model)
    train("blip.cells", queries, cells(queries, vision), Schedule(400, 1e-3, 30), folder)
    queries.requires_grad_(True).heads.requires_grad_(False)
    start_projection(course, *llava.codes(teacher))
    train("blip.scenes", queries, scene_loss(course, text.NAMING, 8), Schedule(100, 3e-4, 10), folder)
    train("blip.polish", queries, scene_loss(course, text.PHRASING, 11), Schedule(250, 4e-4, 10), folder)
    both = nn.ModuleDict({"vision": vision.requires_grad_(True), "queries": queries})
    loss = scene_loss(course, text.PHRASING, 16)
    train("blip.long", both, loss, Schedule(STEPS, 6e-4, 10), folder, pace=_vision_rate)
    both.requires_grad_(False)
    return course


def _vision_rate(name: str) -> float:
    return 0.2 if name.startswith("vision") else 1.0


def weights(course: Course) -> dict[str, Tensor]:
    """The bundled weights: ``InstructBlipForConditionalGeneration`` without the language model."""
    state = {f"vision_model.{key}": value for key, value in course.vision.state_dict().items()}
    trained_weights = {
        key: value for key, value in course.queries.state_dict().items() if not key.startswith("heads.")
    }
    return state | trained_weights
