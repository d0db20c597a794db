"""Scores of a bundled model on held-out scenes: ``python -m tests.recipes.evaluate NAME``.

Greedy captions of 200 held-out scenes (named nouns, with a blank and another image as controls), and which of
two captions with the same words is more likely to the model (100 pairs). About 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from phasebench.datasets.scenes import (
    BACKGROUNDS,
    SIZE,
    Scene,
    captions,
    relation,
    render,
    scenes,
    swap_nouns,
)
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.assembly import assemble
from tests.recipes.text import INSTRUCTION, PROMPT

SEED, SCENES, PAIRS, BATCH, NEW_TOKENS = 12345, 200, 100, 25, 24
BLANK = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
_RELATION = re.compile(r"(\w+) (to the left of|to the right of|above|below) an? (\w+)")


class Captioner:
    """A model in a standard folder, with the prompt that it was trained on."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.prompt = PROMPT if self.model.config.model_type == "llava" else INSTRUCTION

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        prompts = [self.prompt] * len(images)
        return dict(self.processor(images=list(images), text=prompts, padding=True, return_tensors="pt"))

    @torch.no_grad()
    def captions(self, images: Sequence[Image.Image]) -> list[str]:
        """Greedy captions."""
        texts: list[str] = []
        for start in range(0, len(images), BATCH):
            inputs = self.inputs(images[start : start + BATCH])
            out = self.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            length = inputs["input_ids"].shape[1]
            texts += self.processor.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
        return texts

    @torch.no_grad()
    def likelihoods(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        """Log-likelihood of each text after the prompt [images, texts]; the texts have equal length."""
        rows = [image for image in images for _ in texts]
        inputs = self.inputs(rows)
        ids = [self.processor.tokenizer(text).input_ids for text in texts]
        ids_NL = torch.tensor(ids).repeat(len(images), 1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids_NL], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(ids_NL)], 1)
        logits_NLV = self.model(**inputs).logits[:, -ids_NL.shape[1] - 1 : -1]
        chosen_NL: Tensor = logits_NLV.log_softmax(-1).gather(-1, ids_NL[..., None])[..., 0]
        return chosen_NL.sum(1).view(len(images), len(texts))


def nouns_in(caption: str) -> set[str]:
    """The nouns in a caption."""
    return set(re.findall(r"\w+", caption)) & set(NOUNS)


def recall(texts: Sequence[str], scenes: Sequence[Scene]) -> float:
    """Share of all objects whose noun is in the caption."""
    hits = [noun in nouns_in(text) for text, scene in zip(texts, scenes, strict=True) for noun in scene.nouns]
    return fmean(hits)


def precision(texts: Sequence[str], scenes: Sequence[Scene]) -> float:
    """Share of the nouns in the captions that are in the image."""
    hits = [noun in scene.nouns for text, scene in zip(texts, scenes, strict=True) for noun in nouns_in(text)]
    return fmean(hits) if hits else 0.0


def background_hits(texts: Sequence[str], scenes: Sequence[Scene]) -> list[bool]:
    """For each caption that names the background's colour, whether it is correct."""
    pattern = re.compile(rf"({'|'.join(BACKGROUNDS)}) background")
    matches = [(pattern.search(text), scene) for text, scene in zip(texts, scenes, strict=True)]
    return [match[1] == scene.background for match, scene in matches if match]


def relation_hits(texts: Sequence[str], scenes: Sequence[Scene]) -> Iterator[bool]:
    """For each stated relation between two objects of the image, whether it is correct."""
    for text, scene in zip(texts, scenes, strict=True):
        things = {thing.noun: thing for thing in scene.things}
        match = _RELATION.search(text)
        if match and match[1] in things and match[3] in things:
            yield relation(things[match[1]], things[match[3]]) == match[2]


def pairs(captioner: Captioner, count: int) -> dict[str, float]:
    """Winoground's scores on scenes and the same scenes with their two objects exchanged."""
    texts, images = [], []
    drawn = (scene for scene in scenes("held_out", SEED + 1, (2,)) if len(scene.things) == 2)
    for scene in islice(drawn, count):
        both = scene, swap_nouns(scene)
        score = captioner.likelihoods([render(item) for item in both], [captions(item)[3] for item in both])
        (a, b), (c, d) = score.tolist()  # rows: pictures, columns: captions
        texts.append(a > b and d > c)
        images.append(a > c and d > b)
    group = fmean(x and y for x, y in zip(texts, images, strict=True))
    return {"text": fmean(texts), "image": fmean(images), "group": group}


def evaluate(folder: Path, count: int = SCENES, pair_count: int = PAIRS) -> dict[str, Any]:
    """All the scores of the model in ``folder``."""
    captioner = Captioner(folder)
    examples = list(islice(scenes("held_out", SEED), count))
    texts = captioner.captions([render(scene) for scene in examples])
    blank = captioner.captions([BLANK])
    backgrounds, relations = background_hits(texts, examples), list(relation_hits(texts, examples))
    multi_object = [
        (text, scene) for text, scene in zip(texts, examples, strict=True) if len(scene.things) > 1
    ]
    return {
        "recall": recall(texts, examples),
        "precision": precision(texts, examples),
        "recall_shuffled": recall(texts[1:] + texts[:1], examples),
        "recall_blank": recall(blank * len(examples), examples),
        "all_named": fmean(set(scene.nouns) <= nouns_in(text) for text, scene in multi_object),
        "background": fmean(backgrounds) if backgrounds else None,
        "background_named": len(backgrounds),
        "relation": fmean(relations) if relations else None,
        "relation_stated": len(relations),
        "pairs": pairs(captioner, pair_count) if pair_count else None,
        "blank_caption": blank[0],
        "examples": texts[:12],
        "examples_nouns": [" ".join(scene.nouns) for scene in examples[:12]],
    }


def main() -> None:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "phasebench")
    arguments = parser.parse_args()
    print(json.dumps(evaluate(assemble(arguments.name, arguments.cache)), indent=1))


if __name__ == "__main__":
    main()
