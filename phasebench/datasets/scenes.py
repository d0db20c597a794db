"""Procedural scenes: one to three emoji on a coloured background, described by five captions.

A scene is a few numbers, so a seed gives a dataset of scenes. A scene belongs to ``train`` or ``held_out`` by
its content alone (its nouns and its background), so that no scene that a bundled model was trained on can be
measured by accident.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from phasebench.datasets.sprites import NOUNS, sprites

SIZE = 96
"""Width and height of a scene in pixels."""
SIZES = {"small": (26, 34), "big": (42, 52)}
"""Name of an object's size -> range of its longer side in pixels."""
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 50), "orange": (240, 140, 40), "yellow": (245, 220, 80), "green": (60, 150, 70),
    "blue": (50, 95, 200), "purple": (130, 70, 170), "pink": (245, 170, 195), "brown": (120, 80, 50),
    "gray": (140, 140, 140), "black": (25, 25, 28), "white": (245, 245, 242),
}  # fmt: skip
HELD_OUT_SHARE = 8
"""One in this many combinations of nouns and background is held out from training."""

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Thing:
    """One object: its noun, the name of its size, its box's corner and longer side in pixels."""

    noun: str
    size: str
    left: int
    top: int
    side: int
    mirrored: bool = False

    @property
    def centre(self) -> tuple[float, float]:
        """The centre of its box in pixels, (x, y)."""
        return self.left + self.side / 2, self.top + self.side / 2

    @property
    def region(self) -> str:
        """Its position in words, by thirds of the image: ``top left``, ``middle``, ..."""
        column, row = (min(2, int(3 * value / SIZE)) for value in self.centre)
        words = (("top", "", "bottom")[row], ("left", "", "right")[column])
        return " ".join(word for word in words if word) or "middle"


@dataclass(frozen=True)
class Scene:
    """The description of an image, from which it is drawn."""

    background: str
    things: tuple[Thing, ...]
    shade: float = 0.0
    """Change of lightness from the top to the bottom row, -1 to 1."""
    texture: int = 0
    """Period of the background's checks in pixels; 0 for a plain background."""

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns of its objects."""
        return tuple(thing.noun for thing in self.things)

    @property
    def split(self) -> Split:
        """Its split, which follows from its nouns and background."""
        key = "/".join([*sorted(self.nouns), self.background])
        return "held_out" if zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0 else "train"


def scenes(split: Split, seed: int, counts: Sequence[int] = (1, 2, 2, 3)) -> Iterator[Scene]:
    """An endless stream of the split's scenes, each with a number of objects drawn from ``counts``."""
    index = 0
    while True:
        rng = random.Random(f"{split}/{seed}/{index}")
        scene = _draw(rng, counts)
        index += 1
        if scene.split == split:
            yield scene


def _draw(rng: random.Random, counts: Sequence[int]) -> Scene:
    nouns = rng.sample(NOUNS, rng.choice(counts))
    things: list[Thing] = []
    for noun in nouns:
        thing = _placed_thing(rng, noun, things, sizes=("small", "big") if len(nouns) < 3 else ("small",))
        if thing is not None:
            things.append(thing)
    return Scene(
        background=rng.choice(list(BACKGROUNDS)),
        things=tuple(things),
        shade=rng.uniform(-0.25, 0.25),
        texture=rng.choice((0, 0, 6, 10, 16)),
    )


def _placed_thing(rng: random.Random, noun: str, others: list[Thing], sizes: Sequence[str]) -> Thing | None:
    """The object ``noun`` at a free position, or None if the image is too full."""
    for _ in range(50):
        size = rng.choice(sizes)
        side = rng.randint(*SIZES[size])
        left, top = (rng.randint(0, SIZE - side) for _ in range(2))
        thing = Thing(noun, size, left, top, side, mirrored=rng.random() < 0.5)
        if not any(_overlap(thing, other) for other in others):
            return thing
    return None


def _overlap(a: Thing, b: Thing) -> bool:
    return (
        a.left < b.left + b.side
        and b.left < a.left + a.side
        and a.top < b.top + b.side
        and b.top < a.top + a.side
    )


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB image of ``SIZE`` x ``SIZE`` pixels."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    light = 1 + scene.shade * (rows / (SIZE - 1) - 0.5)
    if scene.texture:
        light += 0.06 * ((rows // scene.texture + columns // scene.texture) % 2 - 0.5)
    pixels = np.asarray(BACKGROUNDS[scene.background]) * light[..., None]
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    for thing in scene.things:
        _paste(image, thing)
    return image


def _paste(image: Image.Image, thing: Thing) -> None:
    sprite = sprites()[thing.noun]
    scale = thing.side / max(sprite.size)
    width, height = (max(1, round(scale * side)) for side in sprite.size)
    sprite = sprite.resize((width, height), Image.Resampling.BILINEAR)
    if thing.mirrored:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    corner = thing.left + (thing.side - width) // 2, thing.top + (thing.side - height) // 2
    image.paste(sprite, corner, sprite)


def relation(a: Thing, b: Thing) -> str:
    """The position of ``a`` relative to ``b``, along the axis on which their centres differ more."""
    dx, dy = (u - v for u, v in zip(a.centre, b.centre, strict=True))
    if abs(dx) >= abs(dy):
        return "to the left of" if dx < 0 else "to the right of"
    return "above" if dy < 0 else "below"


def article(noun: str) -> str:
    """The noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def captions(scene: Scene) -> list[str]:
    """Five captions of the scene; all name every object, some also position, size and background."""
    things = sorted(scene.things, key=lambda thing: (round(thing.left / 24), thing.top))
    named = [article(thing.noun) for thing in things]
    listed = _enumeration(named)
    ground = f"{article(scene.background)} background"
    if len(things) == 1:
        thing = things[0]
        fourth = f"{article(thing.size)} {thing.noun} on {ground}"
        fifth = f"{named[0]} in the {thing.region}" + (
            "" if thing.region == "middle" else " corner" * (" " in thing.region)
        )
    else:
        first, second = things[0], things[1]
        fourth = _enumeration([f"{named[0]} {relation(first, second)} {named[1]}", *named[2:]])
        fifth = _enumeration([f"{named[1]} {relation(second, first)} {named[0]}", *named[2:]])
    return [
        f"{listed} on {ground}",
        f"a picture of {listed}",
        f"there is {listed} on {ground}",
        fourth,
        fifth,
    ]


def _enumeration(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def swap_nouns(scene: Scene) -> Scene:
    """The scene with its first two objects' nouns exchanged: the same words, another image."""
    first, second, *rest = scene.things
    exchanged = replace(first, noun=second.noun), replace(second, noun=first.noun)
    return replace(scene, things=(*exchanged, *rest))
