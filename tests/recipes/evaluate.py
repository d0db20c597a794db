"""Held-out scores of a bundled model: ``python -m tests.recipes.evaluate NAME``.

Greedy captions of 200 held-out scenes (nouns named, with a blank and a swapped picture as controls),
and which of two captions with the same words the model finds likelier (100 pairs). About 3 minutes.
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

from phasebench.datasets.scenes import BACKGROUNDS, SIZE, Scene, captions, relation, render, scenes, swapped
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.assembly import assemble
from tests.recipes.text import INSTRUCTION, PROMPT

SEED, SCENES, PAIRS, BATCH, NEW_TOKENS = 12345, 200, 100, 25, 24
BLANK = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
_RELATION = re.compile(r"(\w+) (to the left of|to the right of|above|below) an? (\w+)")


class Subject:
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
        told: list[str] = []
        for start in range(0, len(images), BATCH):
            inputs = self.inputs(images[start : start + BATCH])
            out = self.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            length = inputs["input_ids"].shape[1]
            told += self.processor.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
        return told

    @torch.no_grad()
    def likelihoods(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        """Log-likelihood of each text behind the prompt [images, texts]; the texts have equal length."""
        rows = [image for image in images for _ in texts]
        inputs = self.inputs(rows)
        ids = [self.processor.tokenizer(text).input_ids for text in texts]
        ids_NL = torch.tensor(ids).repeat(len(images), 1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids_NL], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(ids_NL)], 1)
        logits_NLV = self.model(**inputs).logits[:, -ids_NL.shape[1] - 1 : -1]
        chosen_NL: Tensor = logits_NLV.log_softmax(-1).gather(-1, ids_NL[..., None])[..., 0]
        return chosen_NL.sum(1).view(len(images), len(texts))


def named(caption: str) -> set[str]:
    """The nouns in a caption."""
    return set(re.findall(r"\w+", caption)) & set(NOUNS)


def recall(told: Sequence[str], shown: Sequence[Scene]) -> float:
    """Share of all objects whose noun is in the caption."""
    hits = [noun in named(text) for text, scene in zip(told, shown, strict=True) for noun in scene.nouns]
    return fmean(hits)


def precision(told: Sequence[str], shown: Sequence[Scene]) -> float:
    """Share of the nouns in the captions that are in the picture."""
    hits = [noun in scene.nouns for text, scene in zip(told, shown, strict=True) for noun in named(text)]
    return fmean(hits) if hits else 0.0


def grounds(told: Sequence[str], shown: Sequence[Scene]) -> list[bool]:
    """For each caption that names the background's colour: is it right?"""
    pattern = re.compile(rf"({'|'.join(BACKGROUNDS)}) background")
    found = [(pattern.search(text), scene) for text, scene in zip(told, shown, strict=True)]
    return [match[1] == scene.background for match, scene in found if match]


def relations(told: Sequence[str], shown: Sequence[Scene]) -> Iterator[bool]:
    """For each stated relation between two objects of the picture: is it right?"""
    for text, scene in zip(told, shown, strict=True):
        things = {thing.noun: thing for thing in scene.things}
        match = _RELATION.search(text)
        if match and match[1] in things and match[3] in things:
            yield relation(things[match[1]], things[match[3]]) == match[2]


def pairs(subject: Subject, count: int) -> dict[str, float]:
    """Winoground's scores on scenes and the same scenes with their two objects exchanged."""
    texts, images = [], []
    drawn = (scene for scene in scenes("held_out", SEED + 1, (2,)) if len(scene.things) == 2)
    for scene in islice(drawn, count):
        both = scene, swapped(scene)
        score = subject.likelihoods([render(one) for one in both], [captions(one)[3] for one in both])
        (a, b), (c, d) = score.tolist()  # rows: pictures, columns: captions
        texts.append(a > b and d > c)
        images.append(a > c and d > b)
    group = fmean(x and y for x, y in zip(texts, images, strict=True))
    return {"text": fmean(texts), "image": fmean(images), "group": group}


def evaluate(folder: Path, count: int = SCENES, pair_count: int = PAIRS) -> dict[str, Any]:
    """All the scores of the model in ``folder``."""
    subject = Subject(folder)
    shown = list(islice(scenes("held_out", SEED), count))
    told = subject.captions([render(scene) for scene in shown])
    blank = subject.captions([BLANK])
    coloured, stated = grounds(told, shown), list(relations(told, shown))
    couples = [(text, scene) for text, scene in zip(told, shown, strict=True) if len(scene.things) > 1]
    return {
        "recall": recall(told, shown),
        "precision": precision(told, shown),
        "recall_shuffled": recall(told[1:] + told[:1], shown),
        "recall_blank": recall(blank * len(shown), shown),
        "all_named": fmean(set(scene.nouns) <= named(text) for text, scene in couples),
        "background": fmean(coloured) if coloured else None,
        "background_named": len(coloured),
        "relation": fmean(stated) if stated else None,
        "relation_stated": len(stated),
        "pairs": pairs(subject, pair_count) if pair_count else None,
        "blank_caption": blank[0],
        "examples": told[:12],
        "examples_nouns": [" ".join(scene.nouns) for scene in shown[:12]],
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
