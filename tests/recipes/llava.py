"""smol-llava: a projector between the vision encoder and the frozen language model, by caption loss alone.

``words`` shows two patches of one object and asks for its noun (140 steps: 91 % right); ``lists`` shows
three patches of every object and two bare ones and asks for captions; ``scenes`` shows all 36 patches, as
the model will be used; ``polish`` and ``finish`` weigh how captions go on as much as what they name;
``tower``, ``last`` and ``long`` train the encoder too, at a fifth of the rate. On one of two busy cores that
took 5, 9, 19, 10, 14 and 68 minutes, after 22 for the encoder.
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
from phasebench.models.bundled.builders import IMAGE, renamed
from tests.recipes import text
from tests.recipes.detectors import detectors, examples, probes, whitening
from tests.recipes.frozen import FrozenLM, Pack
from tests.recipes.patches import cells_of, seen_cells
from tests.recipes.training import Loss, Schedule, train
from tests.recipes.vision import GRID, WIDTH, Eyes, batch_of, pixels, trained_eyes

HIDDEN = 576
STEPS = 700
"""Of the last stage."""
DETECTORS = len(NOUNS) + 1 + len(BACKGROUNDS)
"""So many hidden units start as detectors of a noun, of bare ground or of a background's colour."""


class Projector(nn.Module):
    """The names and the arithmetic of ``LlavaMultiModalProjector``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(WIDTH, HIDDEN)
        self.linear_2 = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear_2(F.gelu(self.linear_1(features)))
        return projected


@torch.no_grad()
def new_projector(eyes: Eyes, norm: float, seed: int = 0) -> Projector:
    """First layer: detectors of what the encoder tells apart, then whitened mixtures; second: random codes.

    The codes have the embeddings' ``norm`` in the mean; they know nothing of the words.
    """
    torch.manual_seed(seed)
    projector = Projector()
    features_ND, nouns_N, grounds_N = examples(eyes)
    noun_NK = F.one_hot(nouns_N, len(NOUNS) + 1).float()
    ground_NK = F.one_hot(grounds_N, len(BACKGROUNDS)).float() * noun_NK[:, -1:]
    directions_KD = torch.cat([eyes.noun.weight - eyes.noun.weight.mean(0), probes(features_ND, ground_NK)])
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
    """What all the stages need."""

    lm: FrozenLM
    tokenizer: Tokenizer
    eyes: Eyes
    projector: Projector

    def features(self, batch: list[Scene]) -> Tensor:
        """What the vision encoder makes of the patches [B, P, D]."""
        features: Tensor = self.eyes.tower(pixel_values=pixels(batch)).last_hidden_state[:, 1:]
        return features


def words(course: Course, size: int = 24, patches: int = 2) -> Callable[[int], Loss]:
    """One object a sample. The question stands before the picture here, where it can be cached."""
    ids = text.prompt_ids(course.tokenizer, text.ASKED_FIRST, patches)
    start = ids.index(IMAGE)
    past = course.lm.past(tuple(ids[:start]))

    def loss_of(step: int) -> Loss:
        rng = random.Random(step)
        batch = batch_of(step, size // 4, (3, 4, 5, 6), seed=1)
        features_BPD = course.features(batch)
        chosen = [(row, index) for row, scene in enumerate(batch) for index in range(len(scene.things))]
        visual, rows = [], []
        for row, index in rng.sample(chosen, min(size, len(chosen))):
            cells = cells_of(batch[row], index, GRID, 4)
            visual.append(features_BPD[row, sorted(rng.sample(cells, patches))])
            rows.append([text.open_target(course.tokenizer, article(batch[row].things[index].noun))])
        return course.lm.loss(course.projector(torch.stack(visual)), text.pack(ids[start:], rows, past))

    return loss_of


def lists(course: Course, size: int = 12, each: int = 3, ground: int = 2) -> Callable[[int], Loss]:
    """All of a scene's objects, by a few patches each, and two of its captions."""

    def loss_of(step: int) -> Loss:
        count = (1, 2, 3, 3)[step % 4]
        drawn = (scene for scene in scenes("train", 2_000_000 + step, (count,)) if len(scene.things) == count)
        batch = list(islice(drawn, size * 3 // (count + 1)))
        cells = [seen_cells(scene, GRID, each, ground) for scene in batch]
        even = min(map(len, cells))  # objects that touch share cells
        chosen = torch.tensor([[row[len(row) * place // even] for place in range(even)] for row in cells])
        features_BVD = course.features(batch)[torch.arange(len(batch))[:, None], chosen]
        rows = text.drawn_captions(course.tokenizer, batch, step, 2)
        return course.lm.loss(course.projector(features_BVD), _packed(course, rows, even))

    return loss_of


def whole(
    course: Course, emphasis: text.Emphasis, seed: int, size: int = 8, told: int = 2
) -> Callable[[int], Loss]:
    """Whole scenes, ``told`` captions of each."""

    def loss_of(step: int) -> Loss:
        batch = batch_of(step, size, (1, 2, 2, 3), seed=seed)
        visual_BPD = course.projector(course.features(batch))
        rows = text.drawn_captions(course.tokenizer, batch, step, told, emphasis)
        return course.lm.loss(visual_BPD, _packed(course, rows, GRID * GRID))

    return loss_of


def _packed(course: Course, rows: list[list[text.Target]], visual: int) -> Pack:
    """Captions behind the prompt that the model will be used with."""
    ids = text.prompt_ids(course.tokenizer, text.PROMPT, visual)
    start = ids.index(IMAGE)
    return text.pack(ids[start:], rows, course.lm.past(tuple(ids[:start])))


@contextmanager
def _only_codes(projector: Projector) -> Iterator[None]:
    """Train nothing but what the detectors say, so that no direction common to all patches grows."""
    projector.linear_1.requires_grad_(False)
    projector.linear_2.bias.requires_grad_(False)
    kept_H = (torch.arange(HIDDEN) < DETECTORS).float()
    hook = projector.linear_2.weight.register_hook(lambda gradient: gradient * kept_H)
    yield
    hook.remove()
    projector.linear_2.bias.requires_grad_(True)


@torch.no_grad()
def _rescale(projector: Projector, features_ND: Tensor, factor: float) -> None:
    """Scale the mixtures, and their columns the other way: nearly the same function, another pace.

    Small ones learn slowly. Large ones let all visual vectors drift one way, for gelu makes them positive
    in the mean; that hurts as long as a few patches stand for a picture.
    """
    before_D = projector(features_ND).mean(0)
    projector.linear_1.weight[DETECTORS:] *= factor
    projector.linear_1.bias[DETECTORS:] *= factor
    projector.linear_2.weight[:, DETECTORS:] /= factor
    projector.linear_2.bias.add_(before_D - projector(features_ND).mean(0))


def _slow_but_the_codes(name: str) -> float:
    return 1.0 if "linear_2" in name else 0.2


def trained(folder: Path, language_model: Path, *, finished: bool = True) -> Course:
    """All stages from nothing, or on from the checkpoints in ``folder``.

    Not ``finished``: without the last stages, which train the tower too.
    """
    lm, eyes = FrozenLM(language_model), trained_eyes(folder)
    course = Course(lm, renamed(language_model), eyes, new_projector(eyes, lm.norm))
    projector = course.projector
    with _only_codes(projector):
        train("llava.words", projector, words(course), Schedule(140, 4e-3, 10, 0.0), folder)
    train("llava.lists", projector, lists(course), Schedule(120, 1e-3, 20), folder)
    _rescale(projector, examples(eyes, 2)[0], 0.3)
    train("llava.scenes", projector, whole(course, text.WHAT, 3), Schedule(200, 1e-3, 20), folder)
    if not finished:
        return course
    train("llava.polish", projector, whole(course, text.HOW, 10), Schedule(90, 3e-3, 10), folder)
    _rescale(projector, examples(eyes, 2)[0], 4.0)
    train("llava.finish", projector, whole(course, text.HOW, 12), Schedule(30, 1.5e-3, 10), folder)
    model = nn.ModuleDict({"tower": eyes.tower, "projector": projector}).requires_grad_(True)
    for name, seed, schedule in (
        ("llava.tower", 13, Schedule(105, 1.5e-3, 10)),
        ("llava.last", 14, Schedule(45, 1e-3, 5)),
        ("llava.long", 15, Schedule(STEPS, 1.5e-3, 10)),
    ):
        train(name, model, whole(course, text.HOW, seed), schedule, folder, pace=_slow_but_the_codes)
    model.requires_grad_(False)
    return course


@torch.no_grad()
def codes(course: Course) -> tuple[Tensor, Tensor]:
    """Mean visual vector of each noun's patches [nouns, D] and of bare patches by colour [colours, D]."""
    features_ND, nouns_N, grounds_N = examples(course.eyes)
    visual_ND, bare_N = course.projector(features_ND), nouns_N == len(NOUNS)
    nouns = [visual_ND[nouns_N == label].mean(0) for label in range(len(NOUNS))]
    grounds = [visual_ND[bare_N & (grounds_N == label)].mean(0) for label in range(len(BACKGROUNDS))]
    return torch.stack(nouns), torch.stack(grounds)


def weights(course: Course) -> dict[str, Tensor]:
    """What is bundled: the state of ``LlavaForConditionalGeneration`` without the language model."""
    parts = {"vision_tower": course.eyes.tower, "multi_modal_projector": course.projector}
    states = {part: module.state_dict() for part, module in parts.items()}
    return {f"model.{part}.{key}": value for part, state in states.items() for key, value in state.items()}
