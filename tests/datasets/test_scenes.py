"""Procedural scenes: deterministic, split by content, correctly described."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from phasebench.datasets.bundled_datasets import (
    PAIRS,
    SCENES,
    measured_pairs,
    measured_scenes,
    pair_captions,
    pairs_folder,
    scenes_folder,
)
from phasebench.datasets.layouts import read_folder
from phasebench.datasets.named_datasets import bundled_datasets
from phasebench.datasets.scenes import (
    BACKGROUNDS,
    SIZE,
    Scene,
    Thing,
    captions,
    relation,
    render,
    scenes,
    swap_nouns,
)
from phasebench.datasets.sprites import CELL, NOUNS, sprites
from tests.support.paths import ROOT


def test_the_same_seed_gives_the_same_pixels() -> None:
    first, again = (list(islice(scenes("train", 3), 5)) for _ in range(2))
    assert first == again
    assert all(
        np.array_equal(np.asarray(render(a)), np.asarray(render(b)))
        for a, b in zip(first, again, strict=True)
    )
    assert first != list(islice(scenes("train", 4), 5))


def test_the_splits_share_no_combination() -> None:
    """Nouns and background of a held-out scene never occur together in training."""

    def keys(split: str, count: int) -> set[tuple[frozenset[str], str]]:
        return {(frozenset(s.nouns), s.background) for s in islice(scenes(split, 0), count)}  # type: ignore[arg-type]

    assert not keys("train", 3000) & keys("held_out", 400)
    assert all(scene.split == "held_out" for scene in measured_scenes())
    assert all(scene.split == "held_out" for pair in measured_pairs() for scene in pair)


def test_objects_do_not_overlap_or_leave_the_image() -> None:
    for scene in islice(scenes("train", 1, counts=(3,)), 50):
        covered = np.zeros((SIZE, SIZE), dtype=int)
        for thing in scene.things:
            assert 0 <= thing.left <= SIZE - thing.side
            assert 0 <= thing.top <= SIZE - thing.side
            covered[thing.top : thing.top + thing.side, thing.left : thing.left + thing.side] += 1
        assert covered.max() == 1


def test_every_noun_has_a_sprite() -> None:
    assert len(NOUNS) == len(set(NOUNS)) == 80
    for noun in NOUNS:
        assert max(sprites()[noun].size) == CELL
        assert np.asarray(sprites()[noun])[..., 3].mean() > 40


def test_every_noun_and_background_is_drawn() -> None:
    words: Counter[str] = Counter()
    for scene in islice(scenes("train", 0), 1500):
        words.update((*scene.nouns, scene.background))
    assert set(words) >= {*NOUNS, *BACKGROUNDS}


def scene(*things: Thing) -> Scene:
    return Scene("blue", things)


CAT = Thing("cat", "big", 0, 30, 44)
OWL = Thing("owl", "small", 60, 40, 30)


def test_captions_of_one_object() -> None:
    texts = captions(scene(OWL))
    assert texts == [
        "an owl on a blue background",
        "a picture of an owl",
        "there is an owl on a blue background",
        "a small owl on a blue background",
        "an owl in the right",
    ]


def test_captions_of_two_objects_state_their_relation_both_ways() -> None:
    texts = captions(scene(CAT, OWL))
    assert texts[3] == "a cat to the left of an owl"
    assert texts[4] == "an owl to the right of a cat"


def test_captions_name_every_object() -> None:
    for drawn in islice(scenes("train", 9), 100):
        texts = captions(drawn)
        assert len(texts) == 5
        assert all(
            noun in caption.split() or f"{noun}," in caption.split()
            for caption in texts
            for noun in drawn.nouns
        )


def test_relations_follow_the_centres() -> None:
    above, below = Thing("cat", "small", 30, 0, 30), Thing("dog", "small", 40, 60, 30)
    assert relation(above, below) == "above"
    assert relation(below, above) == "below"
    assert relation(OWL, CAT) == "to the right of"


def test_a_swapped_scene_exchanges_the_first_two_nouns_only() -> None:
    before = scene(CAT, OWL)
    after = swap_nouns(before)
    assert after.nouns == ("owl", "cat")
    assert [thing.left for thing in after.things] == [thing.left for thing in before.things]
    assert not np.array_equal(np.asarray(render(before)), np.asarray(render(after)))
    assert swap_nouns(after) == before


def test_both_captions_of_a_pair_have_the_same_words() -> None:
    for pair_scene, swapped_scene in measured_pairs():
        first, second = pair_captions(pair_scene)
        assert sorted(first.replace("an ", "a ").split()) == sorted(second.replace("an ", "a ").split())
        assert first.startswith((f"a {pair_scene.nouns[0]}", f"an {pair_scene.nouns[0]}"))
        assert pair_captions(swapped_scene)[0] == second


@pytest.mark.parametrize(
    ("name", "images", "captions_each"),
    [("scenes", SCENES, 5), ("scene-pairs", 2 * PAIRS, 1), ("photos", 24, 5)],
)
def test_bundled_datasets_are_read_by_the_ordinary_readers(
    name: str, images: int, captions_each: int, cache: Path
) -> None:
    spec = next(spec for spec in bundled_datasets() if spec.name == name)
    samples = spec.read(cache)
    assert len({sample.id for sample in samples}) == len(samples) == images
    assert all(len(sample.captions) == captions_each for sample in samples)
    assert all(sample.open().mode == "RGB" for sample in samples)


def test_the_written_datasets_have_the_generated_scenes(cache: Path) -> None:
    samples = read_folder(scenes_folder(cache))
    for sample, drawn in zip(samples, measured_scenes(), strict=True):
        assert np.array_equal(np.asarray(sample.open()), np.asarray(render(drawn)))
        assert list(sample.captions) == captions(drawn)
    items = read_folder(pairs_folder(cache))
    assert [sample.item for sample in items[:4]] == ["0", "0", "1", "1"]


def test_every_photo_is_attributed() -> None:
    assets = ROOT / "phasebench" / "datasets" / "assets" / "photos"
    rows = [line.split("\t") for line in (assets / "ATTRIBUTION.tsv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows} == {path.name for path in (assets / "photos").iterdir()}
    assert {row[3] for row in rows} == {"http://creativecommons.org/licenses/by/2.0/"}
