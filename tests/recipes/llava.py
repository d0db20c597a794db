"""smol-llava: a projector between the vision encoder and the frozen language model, by caption loss alone.

``words`` shows two patches of one object and asks for its noun (140 steps: 91 % right); ``lists`` shows
three patches of every object and two of the background and asks for captions; ``scenes`` shows all 36
patches, as in later use; ``polish`` and ``finish`` weight the captions' other words as much as their nouns;
``tower``, ``last`` and ``long`` train the encoder too, at a fifth of the rate. On one of two busy cores
that took 5, 9, 19, 10, 14 and 68 minutes, after 22 for the encoder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.datasets.scenes import BACKGROUNDS, Scene, article, scenes
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.builders import IMAGE, tokenizer_with_image_token
from tests.recipes import text
from tests.recipes.detectors import detectors, examples, probes, whitening
from tests.recipes.frozen import FrozenLM, Pack
from tests.recipes.patches import example_cells, object_cells
from tests.recipes.training import Loss, Schedule, train
from tests.recipes.vision import GRID, WIDTH, VisionEncoder, batch_of, pixels, train_vision_encoder

HIDDEN = 576
STEPS = 700
"""Steps of the last stage."""
DETECTORS = len(NOUNS) + 1 + len(BACKGROUNDS)
"""Number of hidden units that start as detectors of a noun, of background or of a background's colour."""


class Projector(nn.Module):
    """A module with the parameter names and the arithmetic of ``LlavaMultiModalProjector``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(WIDTH, HIDDEN)
        self.linear_2 = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear_2(F.gelu(self.linear_1(features)))
        return projected


@torch.no_grad()
def new_projector(encoder: VisionEncoder, norm: float, seed: int = 0) -> Projector:
    """First layer: detectors of what the encoder distinguishes, then whitened mixtures; second: random codes.

    The codes have the embeddings' ``norm`` on average; they are not related to the words.
    """
    torch.manual_seed(seed)
    projector = Projector()
    features_ND, nouns_N, grounds_N = examples(encoder)
    noun_NK = F.one_hot(nouns_N, len(NOUNS) + 1).float()
    ground_NK = F.one_hot(grounds_N, len(BACKGROUNDS)).float() * noun_NK[:, -1:]
    directions_KD = torch.cat(
        [encoder.noun.weight - encoder.noun.weight.mean(0), probes(features_ND, ground_NK)]
    )
    weight_KD, bias_K = detectors(features_ND, torch.cat([noun_NK, ground_NK], 1), directions_KD)
    white_DD, shift_D = whitening(features_ND)
    mixing_HD = torch.randn(HIDDEN - DETECTORS, WIDTH) / WIDTH**0.5
    mixing_HD *= 0.3  # so small that gelu is nearly linear
    projector.linear_1.weight.copy_(torch.cat([weight_KD, mixing_HD @ white_DD]))
    projector.linear_1.bias.copy_(torch.cat([bias_K, mixing_HD @ shift_D]))
    projector.linear_2.weight.normal_()
    projector.linear_2.weight[:, DETECTORS:] *= 0.05
    projector.linear_2.bias.zero_()
    projector.linear_2.weight *= norm / projector(features_ND).norm(dim=1).square().mean().sqrt()
    return projector


@dataclass(frozen=True)
class Course:
    """The models that the stages train and use."""

    lm: FrozenLM
    tokenizer: Tokenizer
    encoder: VisionEncoder
    projector: Projector

    def features(self, batch: list[Scene]) -> Tensor:
        """The vision encoder's features of the patches [B, P, D]."""
        features: Tensor = self.encoder.tower(pixel_values=pixels(batch)).last_hidden_state[:, 1:]
        return features


def word_loss(course: Course, size: int = 24, patches: int = 2) -> Callable[[int], Loss]:
    """Loss on one object per sample. The question stands before the image here, where it can be cached."""
    ids = text.prompt_ids(course.tokenizer, text.QUESTION_FIRST, patches)
    start = ids.index(IMAGE)
    past = course.lm.past(tuple(ids[:start]))

    def loss_of(step: int) -> Loss:
        rng = random.Random(step)
        batch = batch_of(step, size // 4, (3, 4, 5, 6), seed=1)
        features_BPD = course.features(batch)
        chosen = [(row, index) for row, scene in enumerate(batch) for index in range(len(scene.things))]
        visual, rows = [], []
        for row, index in rng.sample(chosen, min(size, len(chosen))):
            cells = object_cells(batch[row], index, GRID, 4)
            visual.append(features_BPD[row, sorted(rng.sample(cells, patches))])
            rows.append([text.open_target(course.tokenizer, article(batch[row].things[index].noun))])
        return course.lm.loss(course.projector(torch.stack(visual)), text.pack(ids[start:], rows, past))

    return loss_of


def list_loss(course: Course, size: int = 12, each: int = 3, ground: int = 2) -> Callable[[int], Loss]:
    """Loss on all of a scene's objects, by a few patches each, with two captions."""

    def loss_of(step: int) -> Loss:
        count = (1, 2, 3, 3)[step % 4]
        drawn = (scene for scene in scenes("train", 2_000_000 + step, (count,)) if len(scene.things) == count)
        batch = list(islice(drawn, size * 3 // (count + 1)))
        cells = [example_cells(scene, GRID, each, ground) for scene in batch]
        shortest = min(map(len, cells))  # objects that touch share cells
        chosen = torch.tensor(
            [[row[len(row) * index // shortest] for index in range(shortest)] for row in cells]
        )
        features_BVD = course.features(batch)[torch.arange(len(batch))[:, None], chosen]
        rows = text.sample_captions(course.tokenizer, batch, step, 2)
        return course.lm.loss(course.projector(features_BVD), _pack(course, rows, shortest))

    return loss_of


def scene_loss(
    course: Course, emphasis: text.Emphasis, seed: int, size: int = 8, captions: int = 2
) -> Callable[[int], Loss]:
    """Caption loss on whole scenes, ``captions`` captions of each."""

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 2, 3), seed=seed)
        visual_BPD = course.projector(course.features(batch))
        rows = text.sample_captions(course.tokenizer, batch, step, captions, emphasis)
        return course.lm.loss(visual_BPD, _pack(course, rows, GRID * GRID))

    return loss_of


def _pack(course: Course, rows: list[list[text.Target]], visual: int) -> Pack:
    """Captions after the prompt that the model is used with."""
    ids = text.prompt_ids(course.tokenizer, text.PROMPT, visual)
    start = ids.index(IMAGE)
    return text.pack(ids[start:], rows, course.lm.past(tuple(ids[:start])))


@contextmanager
def _train_codes_only(projector: Projector) -> Iterator[None]:
    """Train only the detectors' outputs, so that no direction common to all patches grows."""
    projector.linear_1.requires_grad_(False)
    projector.linear_2.bias.requires_grad_(False)
    mask_H = (torch.arange(HIDDEN) < DETECTORS).float()
    hook = projector.linear_2.weight.register_hook(lambda gradient: gradient * mask_H)
    yield
    hook.remove()
    projector.linear_2.bias.requires_grad_(True)


@torch.no_grad()
def _rescale(projector: Projector, features_ND: Tensor, factor: float) -> None:
    """Scale the mixtures, and their columns inversely: nearly the same function, another learning pace.

    Small mixtures learn slowly. Large ones let all visual vectors drift in one direction, because gelu makes
    them positive on average; this is harmful as long as a few patches represent an image.
    """
    before_D = projector(features_ND).mean(0)
    projector.linear_1.weight[DETECTORS:] *= factor
    projector.linear_1.bias[DETECTORS:] *= factor
    projector.linear_2.weight[:, DETECTORS:] /= factor
    projector.linear_2.bias.add_(before_D - projector(features_ND).mean(0))


def _code_rate(name: str) -> float:
    return 1.0 if "linear_2" in name else 0.2


def train_all(folder: Path, language_model: Path, *, last_stages: bool = True) -> Course:
    """All stages from scratch, or resumed from the checkpoints in ``folder``.

    Without ``last_stages`` it stops before the stages that also train the tower.
    """
    lm, encoder = FrozenLM(language_model), train_vision_encoder(folder)
    course = Course(lm, tokenizer_with_image_token(language_model), encoder, new_projector(encoder, lm.norm))
    projector = course.projector
    with _train_codes_only(projector):
        train("llava.words", projector, word_loss(course), Schedule(140, 4e-3, 10, 0.0), folder)
    train("llava.lists", projector, list_loss(course), Schedule(120, 1e-3, 20), folder)
    _rescale(projector, examples(encoder, 2)[0], 0.3)
    train("llava.scenes", projector, scene_loss(course, text.NAMING, 3), Schedule(200, 1e-3, 20), folder)
    if not last_stages:
        return course
    train("llava.polish", projector, scene_loss(course, text.PHRASING, 10), Schedule(90, 3e-3, 10), folder)
    _rescale(projector, examples(encoder, 2)[0], 4.0)
    train("llava.finish", projector, scene_loss(course, text.PHRASING, 12), Schedule(30, 1.5e-3, 10), folder)
    model = nn.ModuleDict({"tower": encoder.tower, "projector": projector}).requires_grad_(True)
    for name, seed, schedule in (
        ("llava.tower", 13, Schedule(105, 1.5e-3, 10)),
        ("llava.last", 14, Schedule(45, 1e-3, 5)),
        ("llava.long", 15, Schedule(STEPS, 1.5e-3, 10)),
    ):
        train(name, model, scene_loss(course, text.PHRASING, seed), schedule, folder, pace=_code_rate)
    model.requires_grad_(False)
    return course


@torch.no_grad()
def codes(course: Course) -> tuple[Tensor, Tensor]:
    """Mean visual vectors of each noun's patches [nouns, D] and of background patches [colours, D]."""
    features_ND, nouns_N, grounds_N = examples(course.encoder)
    visual_ND, background_N = course.projector(features_ND), nouns_N == len(NOUNS)
    nouns = [visual_ND[nouns_N == label].mean(0) for label in range(len(NOUNS))]
    grounds = [visual_ND[background_N & (grounds_N == label)].mean(0) for label in range(len(BACKGROUNDS))]
    return torch.stack(nouns), torch.stack(grounds)


def weights(course: Course) -> dict[str, Tensor]:
    """The bundled weights: the state of ``LlavaForConditionalGeneration`` without the language model."""
    parts = {"vision_tower": course.encoder.tower, "multi_modal_projector": course.projector}
    states = {part: module.state_dict() for part, module in parts.items()}
    return {f"model.{part}.{key}": value for part, state in states.items() for key, value in state.items()}
