"""The bundled scenes and scene pairs, written once into the cache in the layouts of COCO and Winoground."""

from __future__ import annotations

import json
import zlib
from itertools import islice
from pathlib import Path

from phasebench.datasets import scenes as generator
from phasebench.datasets.coco import write_coco
from phasebench.datasets.scenes import SIZE, Scene, article, captions, relation, render, scenes, swap_nouns
from phasebench.datasets.sprites import SHEET
from phasebench.datasets.winoground import EXAMPLES
from phasebench.files import make_folder_once

SCENES = 60
PAIRS = 20
SEED = 2411_00646
"""The paper's arXiv number. Training scenes have other seeds, and another split."""


def scenes_folder(cache: Path) -> Path:
    """``SCENES`` held-out scenes with five captions each, in COCO's layout."""
    return make_folder_once(cache / f"scenes-{_version()}", _write_scenes)


def pairs_folder(cache: Path) -> Path:
    """``PAIRS`` items of two held-out scenes with two objects exchanged, in Winoground's form."""
    return make_folder_once(cache / f"scene-pairs-{_version()}", _write_pairs)


def measured_scenes() -> list[Scene]:
    """The scenes of the dataset ``scenes``."""
    return list(islice(scenes("held_out", SEED), SCENES))


def measured_pairs() -> list[tuple[Scene, Scene]]:
    """The scenes of the dataset ``scene-pairs``, each with its swapped scene; all have two objects."""
    stream = scenes("held_out", SEED + 1, counts=(2,))
    pairs = ((scene, swap_nouns(scene)) for scene in stream if len(scene.things) == 2)
    return list(islice(pairs, PAIRS))


def pair_captions(scene: Scene) -> tuple[str, str]:
    """A caption of the scene, and one of its swapped scene with the same words."""
    first, second = scene.things
    between = relation(first, second)
    names = article(first.noun), article(second.noun)
    return f"{names[0]} {between} {names[1]}", f"{names[1]} {between} {names[0]}"


def _version() -> str:
    """Checksum of the generator and the sprites, so that outdated images in the cache are not used."""
    sources = Path(generator.__file__).read_bytes(), Path(__file__).read_bytes(), SHEET.read_bytes()
    return f"{zlib.crc32(b''.join(sources)):08x}"


def _write_scenes(folder: Path) -> None:
    (folder / "scenes").mkdir()
    measured = measured_scenes()
    names = [f"{index:06d}.png" for index in range(len(measured))]
    for name, scene in zip(names, measured, strict=True):
        render(scene).save(folder / "scenes" / name)
    write_coco(
        folder, "scenes", [(name, SIZE, SIZE) for name in names], [captions(scene) for scene in measured]
    )


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
