"""smol-instructblip: a ViT without pre-norm, a Q-Former with one query for each cell of the picture.

``eyes`` teaches InstructBLIP's ViT, which lacks CLIP's first norm, to give what the trained tower gives,
and to tell where a patch is; ``cells`` teaches each query to name what its cell shows, without the
language model; ``scenes`` and ``polish`` train Q-Former and projection by caption loss through the frozen
language model, ``long`` the encoder too. The projection starts as the least-squares map from the queries'
outputs to smol-llava's visual vectors. On one of two busy cores that took 6, 4, 24 and 49 minutes.
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
from tests.recipes.unnormed import EYES, Vision, likeness, new_vision
from tests.recipes.vision import GRID, WIDTH, batch_of, pixels

VOCABULARY = "smol-instructblip.qformer.json"
STEPS = 700
"""Of the last stage."""
SIDE = 4
"""Queries in a row: query ``n`` looks after cell ``n`` of a grid of so many rows and columns."""


class Queries(nn.Module):
    """Everything between the ViT and the language model, and the heads that only ``cells`` needs."""

    def __init__(self, question_ids: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.qformer = InstructBlipQFormerModel(InstructBlipQFormerConfig(**QFORMER, vocab_size=vocabulary))
        self.query_tokens = nn.Parameter(torch.randn(1, QUERIES, WIDTH) * 0.5)
        self.language_projection = nn.Linear(WIDTH, LM_WIDTH)
        self.heads = nn.Linear(WIDTH, len(NOUNS) + 1 + len(BACKGROUNDS) + 3)
        self.register_buffer("question", torch.tensor([list(question_ids)]), persistent=False)

    def forward(self, seen_BPD: Tensor) -> Tensor:
        """The queries' outputs [B, Q, D]."""
        batch = len(seen_BPD)
        ids_BL = self.get_buffer("question").expand(batch, -1)
        mask = torch.ones(batch, QUERIES + ids_BL.shape[1], dtype=torch.long)
        out = self.qformer(
            input_ids=ids_BL,
            attention_mask=mask,
            query_embeds=self.query_tokens.expand(batch, -1, -1),
            encoder_hidden_states=seen_BPD,
            encoder_attention_mask=torch.ones(seen_BPD.shape[:2], dtype=torch.long),
        ).last_hidden_state
        outputs_BQD: Tensor = out[:, :QUERIES]
        return outputs_BQD


@torch.no_grad()
def aim(queries: Queries, model: Vision, sharpness: float = 1.5) -> None:
    """Let the first cross-attention look at each query's own cell from the start.

    Keys tell where a patch is, by the ViT's own head for it; query vectors which patches the cell
    covers. From random weights the queries hardly learn to look in the steps that we can afford.
    """
    where_PK = model.place.weight - model.place.weight.mean(0)
    edges_C = torch.arange(SIDE + 1) / SIDE * GRID
    low_G = torch.arange(GRID)
    high_CG = torch.minimum(edges_C[1:, None], low_G + 1)
    overlap_CG = (high_CG - torch.maximum(edges_C[:-1, None], low_G)).clamp(0)
    member_QP = torch.einsum("ag,bh->abgh", overlap_CG, overlap_CG).flatten(0, 1).flatten(1)
    attention = queries.qformer.encoder.layer[0].crossattention.attention
    heads, width = attention.num_attention_heads, attention.attention_head_size
    tokens_QD = F.layer_norm(queries.query_tokens[0], (WIDTH,))
    ask_PD = sharpness * width**0.5 * (torch.linalg.pinv(tokens_QD) @ member_QP).T
    for linear, rows in ((attention.query, ask_PD), (attention.key, where_PK)):
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
    """Each query tells the noun, the place and the size of what its cell shows, and the background."""
    sections = [len(NOUNS) + 1, len(BACKGROUNDS), 3]

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 3, 4), seed=5)
        with torch.no_grad():
            seen_BPD = vision(pixel_values=pixels(batch)).last_hidden_state
        noun_BQK, ground_BQK, place_BQE = queries.heads(queries(seen_BPD)).split(sections, dim=-1)
        nouns_BQ, geometry_BQE, grounds_BQ = cell_targets(batch)
        taken = nouns_BQ < len(NOUNS)
        noun_loss = F.cross_entropy(noun_BQK.flatten(0, 1), nouns_BQ.flatten())
        ground_loss = F.cross_entropy(ground_BQK.flatten(0, 1), grounds_BQ.flatten())
        place_loss = (place_BQE - geometry_BQE)[taken].abs().mean()
        right = (noun_BQK.argmax(-1) == nouns_BQ)[taken].float().mean().item()
        loss = noun_loss + 0.1 * ground_loss + 0.2 * place_loss
        return loss, {"loss": loss.item(), "cells": right, "place": place_loss.item()}

    return loss_of


@dataclass(frozen=True)
class Course:
    """What the stages with the language model need."""

    lm: FrozenLM
    tokenizer: Tokenizer
    vision: nn.Module
    queries: Queries

    def outputs(self, batch: Sequence[Scene]) -> Tensor:
        """What the queries make of the pictures [B, Q, D]."""
        out: Tensor = self.queries(self.vision(pixel_values=pixels(batch)).last_hidden_state)
        return out


def whole(
    course: Course, emphasis: text.Emphasis, seed: int, size: int = 8, told: int = 2
) -> Callable[[int], Loss]:
    """Whole scenes: all queries, ``told`` captions of each."""
    ids = text.prompt_ids(course.tokenizer, text.INSTRUCTION, QUERIES)

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 2, 3), seed=seed)
        visual_BQD = course.queries.language_projection(course.outputs(batch))
        rows = text.drawn_captions(course.tokenizer, batch, step, told, emphasis)
        return course.lm.loss(visual_BQD, text.pack(ids, rows))

    return loss_of


@torch.no_grad()
def start_projection(course: Course, codes_KD: Tensor, grounds_KD: Tensor, batches: int = 12) -> None:
    """Least squares from the queries' outputs to a code of what their cell shows.

    ``codes_KD`` are smol-llava's mean visual vectors of the nouns, ``grounds_KD`` of bare patches.
    """
    features, wanted = [], []
    for step in range(batches):
        batch = batch_of(step, 64, (1, 2, 3), seed=9)
        nouns_BQ, _, grounds_BQ = cell_targets(batch)
        bare = (nouns_BQ == len(NOUNS))[..., None]
        wanted.append(torch.where(bare, grounds_KD[grounds_BQ], codes_KD[nouns_BQ.clamp(max=len(NOUNS) - 1)]))
        features.append(course.outputs(batch))
    inputs_ND = F.pad(torch.cat(features).flatten(0, 1), (0, 1), value=1.0)
    outputs_ND = torch.cat(wanted).flatten(0, 1)
    gram_DD = inputs_ND.T @ inputs_ND
    ridge_DD = 1e-4 * gram_DD.diagonal().mean() * torch.eye(len(gram_DD))
    solved_DD = torch.linalg.solve(gram_DD + ridge_DD, inputs_ND.T @ outputs_ND)
    course.queries.language_projection.weight.copy_(solved_DD[:-1].T)
    course.queries.language_projection.bias.copy_(solved_DD[-1])


def trained(folder: Path, language_model: Path) -> Course:
    """All stages from nothing (smol-llava's first ones too), or on from the checkpoints in ``folder``."""
    teacher = llava.trained(folder, language_model, finished=False)
    vision = new_vision(teacher.eyes.tower)
    model = Vision(vision)
    for stage, placed, steps, rate in EYES:
        train(stage, model, likeness(model, teacher.eyes.tower, placed), Schedule(steps, rate, 10), folder)
    vocabulary = folder / VOCABULARY
    if not vocabulary.exists():  # training it anew gives its pieces other ids
        text.question_vocabulary().save(str(vocabulary))
    tokenizer = question_tokenizer(vocabulary)
    torch.manual_seed(0)
    queries = Queries(tokenizer(text.INSTRUCTION).input_ids, len(tokenizer))
    course = Course(teacher.lm, teacher.tokenizer, vision.requires_grad_(False), queries)
    queries.language_projection.requires_grad_(False)
    aim(queries, model)
    train("blip.cells", queries, cells(queries, vision), Schedule(400, 1e-3, 30), folder)
    queries.requires_grad_(True).heads.requires_grad_(False)
    start_projection(course, *llava.codes(teacher))
    train("blip.scenes", queries, whole(course, text.WHAT, 8), Schedule(100, 3e-4, 10), folder)
    train("blip.polish", queries, whole(course, text.HOW, 11), Schedule(250, 4e-4, 10), folder)
    both = nn.ModuleDict({"vision": vision.requires_grad_(True), "queries": queries})
    seen = whole(course, text.HOW, 16)
    train("blip.long", both, seen, Schedule(STEPS, 6e-4, 10), folder, pace=_slow_eyes)
    both.requires_grad_(False)
    return course


def _slow_eyes(name: str) -> float:
    return 0.2 if name.startswith("vision") else 1.0


def weights(course: Course) -> dict[str, Tensor]:
    """What is bundled: ``InstructBlipForConditionalGeneration`` without the language model."""
    state = {f"vision_model.{key}": value for key, value in course.vision.state_dict().items()}
    kept = {key: value for key, value in course.queries.state_dict().items() if not key.startswith("heads.")}
    return state | kept
