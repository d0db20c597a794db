"""The measured scenes and pairs, written once into the cache in the layouts of the real sets."""

from __future__ import annotations

import json
import zlib
from itertools import islice
from pathlib import Path

from phasebench.datasets import scenes as generator
from phasebench.datasets.coco import write_coco
from phasebench.datasets.scenes import SIZE, Scene, article, captions, relation, render, scenes, swapped
from phasebench.datasets.sprites import SHEET
from phasebench.datasets.winoground import EXAMPLES
from phasebench.files import made_once

SCENES = 60
PAIRS = 20
SEED = 2411_00646
"""The paper's number; the stream of training scenes has other seeds, and another split."""


def scenes_folder(cache: Path) -> Path:
    """``SCENES`` held-out scenes with five captions each, in COCO's layout."""
    return made_once(cache / f"scenes-{_version()}", _write_scenes)


def pairs_folder(cache: Path) -> Path:
    """``PAIRS`` items of two held-out scenes with two objects exchanged, in Winoground's form."""
    return made_once(cache / f"scene-pairs-{_version()}", _write_pairs)


def measured_scenes() -> list[Scene]:
    """The scenes behind ``scenes``."""
    return list(islice(scenes("held_out", SEED), SCENES))


def measured_pairs() -> list[tuple[Scene, Scene]]:
    """The scenes behind ``scene-pairs``: of two objects that overlap neither way round."""
    stream = scenes("held_out", SEED + 1, counts=(2,))
    pairs = ((scene, swapped(scene)) for scene in stream if len(scene.things) == 2)
    return list(islice(pairs, PAIRS))


def pair_captions(scene: Scene) -> tuple[str, str]:
    """What is true of the scene and what is true of its swapped one: the same words."""
    first, second = scene.things
    between = relation(first, second)
    names = article(first.noun), article(second.noun)
    return f"{names[0]} {between} {names[1]}", f"{names[1]} {between} {names[0]}"


def _version() -> str:
    """Changes with the generator and the sprites, so that a cache never serves old pictures."""
    sources = Path(generator.__file__).read_bytes(), Path(__file__).read_bytes(), SHEET.read_bytes()
    return f"{zlib.crc32(b''.join(sources)):08x}"


def _write_scenes(folder: Path) -> None:
    (folder / "scenes").mkdir()
    drawn = measured_scenes()
    names = [f"{index:06d}.png" for index in range(len(drawn))]
    for name, scene in zip(names, drawn, strict=True):
        render(scene).save(folder / "scenes" / name)
    write_coco(folder, "scenes", [(name, SIZE, SIZE) for name in names], [captions(s) for s in drawn])


def _write_pairs(folder: Path) -> None:
    (folder / "images").mkdir()
    lines = []
    for index, pair in enumerate(measured_pairs()):
        names = [f"ex_{index}_img_{side}" for side in (0, 1)]
        for name, scene in zip(names, pair, strict=True):
            render(scene).save(folder / "images" / f"{name}.png")
        texts = pair_captions(pair[0])
        item = {
            "id": index,
            "image_0": names[0],
            "image_1": names[1],
            "caption_0": texts[0],
            "caption_1": texts[1],
        }
        lines.append(json.dumps({**item, "tag": "Noun", "num_main_preds": 1, "collapsed_tag": "Object"}))
    (folder / EXAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")
