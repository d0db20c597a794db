"""The models' text: prompts, and captions as weighted next-token targets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import torch
from tokenizers import BertWordPieceTokenizer, Tokenizer

from phasebench.datasets.scenes import BACKGROUNDS, SIZES, Scene, captions, scenes
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.builders import IMAGE, IMAGE_TOKEN
from tests.recipes.frozen import Pack, Past

END = 2
QUESTION = "Describe the picture."
INSTRUCTION = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
"""The InstructBLIP processor puts the image tokens before it."""
PROMPT = INSTRUCTION.replace(QUESTION, f"{IMAGE_TOKEN}\n{QUESTION}")
QUESTION_FIRST = INSTRUCTION.replace(QUESTION, f"{QUESTION}\n{IMAGE_TOKEN}")
CONTENT = {*NOUNS, *BACKGROUNDS, *SIZES, "top", "left", "right", "bottom", "middle", "above", "below"}
GLUE = {"on", "and", ",", "above", "below", "to"}
"""Words that join two parts of a caption; the frozen language model prefers ``with``."""


@dataclass(frozen=True)
class Emphasis:
    """Weights in the loss for tokens in ``GLUE`` and for other tokens without content.

    ``CONTENT`` and a caption's first token weigh 1.
    """

    glue: float = 0.4
    function: float = 0.4

    def weight(self, word: str) -> float:
        """The weight of a word."""
        return self.glue if word in GLUE else 1.0 if word in CONTENT else self.function


NAMING, PHRASING = Emphasis(), Emphasis(glue=2.0, function=1.0)
"""For early stages, which learn to name objects, and for later ones, which learn to phrase captions."""

Target = tuple[list[int], list[float]]


def target(tokenizer: Tokenizer, caption: str, emphasis: Emphasis = NAMING) -> Target:
    """A caption's token ids and their weights in the loss, up to the end of the turn."""
    encoded = tokenizer.encode(caption)
    weights = [emphasis.weight(token.lstrip("Ġ")) for token in encoded.tokens]
    return [*encoded.ids, END], [1.0, *weights[1:], emphasis.function]


def open_target(tokenizer: Tokenizer, words: str) -> Target:
    """The beginning of a caption, without an end."""
    ids, weights = target(tokenizer, words)
    return ids[:-1], weights[:-1]


def prompt_ids(tokenizer: Tokenizer, prompt: str, visual: int) -> list[int]:
    """The prompt's ids with ``<image>`` repeated; before the prompt if it has none."""
    if IMAGE_TOKEN not in prompt:
        return [IMAGE] * visual + list(tokenizer.encode(prompt).ids)
    before, after = prompt.split(IMAGE_TOKEN)
    return [*tokenizer.encode(before).ids, *[IMAGE] * visual, *tokenizer.encode(after).ids]


def pack(prompt: Sequence[int], rows: Sequence[Sequence[Target]], past: Past | None = None) -> Pack:
    """One row for each image: the prompt, then the image's captions side by side.

    With ``past`` the prompt continues after it.
    """
    shared, last, start = len(prompt) - 1, prompt[-1], past.length if past else 0
    table: list[list[tuple[int, int, int, int, float]]] = []
    for row in rows:
        line = [(token, start + position, 0, 0, 0.0) for position, token in enumerate(prompt[:-1])]
        for number, (tokens, weights) in enumerate(row, start=1):
            positions = range(start + shared, start + shared + len(tokens))
            inputs = [last, *tokens[:-1]]
            line += zip(inputs, positions, [number] * len(tokens), tokens, weights, strict=True)
        table.append(line)
    padded = list(zip_longest(*table, fillvalue=(END, 0, -1, 0, 0.0)))
    columns = [torch.tensor([[cell[part] for cell in line] for line in padded]).T for part in range(5)]
    return Pack(columns[0], columns[1], columns[2], columns[3], columns[4], past)


def sample_captions(
    tokenizer: Tokenizer, batch: Sequence[Scene], step: int, count: int, emphasis: Emphasis = NAMING
) -> list[list[Target]]:
    """``count`` random captions of each scene."""
    rng = random.Random(step)
    return [
        [target(tokenizer, words, emphasis) for words in rng.sample(captions(scene), count)]
        for scene in batch
    ]


INSTRUCTIONS = (
    QUESTION, "What do you see?", "What is in the picture?", "Describe the image in one sentence.",
    "Name the objects in the picture.", "What colour is the background?", "Where is the object?",
    "Is there a cat? Answer yes or no.", "How many objects are there? Count them.",
)  # fmt: skip


def question_vocabulary(size: int = 600) -> Tokenizer:
    """The Q-Former's own small WordPiece, trained on captions and instructions (1 s)."""
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    lines = [caption for scene in islice(scenes("train", 0), 2000) for caption in captions(scene)]
    chats = [INSTRUCTION.replace(QUESTION, question) for question in INSTRUCTIONS]
    lines += 50 * chats
    tokenizer.train_from_iterator(lines, vocab_size=size, min_frequency=2, show_progress=False)
    return Tokenizer.from_str(tokenizer.to_str())
