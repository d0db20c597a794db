"""Quick tests of the parts of the bundled models' recipes, without the hours of training."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from phasebench.datasets.scenes import SIZE, Scene, Thing, render, scenes
from phasebench.datasets.sprites import NOUNS
from phasebench.models.bundled.builders import PATCH
from tests.recipes import evaluate
from tests.recipes.detectors import SCORE, detectors, probes, whitening
from tests.recipes.patches import coverage, object_cells, owners
from tests.recipes.training import Schedule, train
from tests.recipes.vision import CONFIG, GRID, VisionEncoder, batch_of, pixels, targets

CAT, OWL = Thing("cat", "big", 0, 0, 48), Thing("owl", "small", 64, 64, 32)
PICTURE = Scene("blue", (CAT, OWL))


def test_only_training_scenes_are_trained_on() -> None:
    for seed in range(4):
        assert all(scene.split == "train" for scene in batch_of(3, 32, seed=seed))


def test_pixels_are_scaled_to_minus_one_and_one() -> None:
    values = pixels([PICTURE])
    assert values.shape == (1, 3, SIZE, SIZE)
    expected = torch.from_numpy(np.asarray(render(PICTURE)) / 127.5 - 1).float()
    assert torch.allclose(values[0].permute(1, 2, 0), expected, atol=1e-6)


def test_coverage_is_the_share_of_each_cell() -> None:
    shares = coverage(PICTURE, GRID)
    assert shares.shape == (GRID * GRID, 2)
    assert shares[0].tolist() == [1, 0]
    assert shares[-1].tolist() == [0, 1]
    assert shares.sum(0).tolist() == [9, 4]


def test_owners_and_cells() -> None:
    owner = owners(PICTURE, GRID).reshape(GRID, GRID)
    assert (owner[:3, :3] == 0).all()
    assert (owner[4:, 4:] == 1).all()
    assert (owner == -1).sum() == GRID * GRID - 13
    assert object_cells(PICTURE, 1, GRID, 4) == [28, 29, 34, 35]


def test_targets_name_the_patches_of_each_object() -> None:
    nouns, geometry, grounds = targets([PICTURE])
    table = nouns[0].reshape(GRID, GRID)
    assert (table[:3, :3] == NOUNS.index("cat")).all()
    assert table[0, 5] == len(NOUNS)
    middle = geometry[0].reshape(GRID, GRID, 3)[1, 1]
    assert torch.allclose(middle, torch.tensor([0.0, 0.0, 48 / PATCH]))
    assert len(grounds) == 1


def test_the_vision_encoder_learns_from_every_patch() -> None:
    torch.manual_seed(0)
    from transformers import CLIPVisionModel

    encoder = VisionEncoder(CLIPVisionModel(CONFIG))
    loss, metrics = encoder(batch_of(0, 2))
    loss.backward()
    assert set(metrics) == {"loss", "patches", "place"}
    assert all(p.grad is not None for name, p in encoder.named_parameters() if "post_layernorm" not in name)


def test_the_schedule_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Schedule(steps=1000, rate=1.0, warmup=100)
    assert schedule.factor(0) == pytest.approx(0.01)
    assert schedule.factor(99) == schedule.factor(100) == 1
    assert schedule.factor(1000) == pytest.approx(0.1)
    assert all(schedule.factor(s) >= schedule.factor(s + 1) for s in range(100, 1000))


def fit(folder: Path, steps: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"loss": loss.item()}

    train("line", model, loss_of, Schedule(steps, 0.05, 5), folder, every=10)
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    fit(tmp_path, 40)
    rows = [json.loads(line) for line in (tmp_path / "line.log").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = fit(whole, 40)
    from tests.recipes import training

    save = training._save

    def save_and_die(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", save_and_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            fit(broken, 40)
    monkeypatch.setattr(training, "_save", save)
    resumed = fit(broken, 40)
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)


def test_whitening_gives_unit_covariance() -> None:
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    features = torch.randn(4000, 6) @ torch.diag(torch.arange(1.0, 7)) @ rotation + 3
    weight, shift = whitening(features)
    white = features @ weight.T + shift
    assert torch.allclose(white.mean(0), torch.zeros(6), atol=1e-3)
    assert torch.allclose(torch.cov(white.T), torch.eye(6), atol=5e-2)


def test_detectors_separate_hits_from_the_rest() -> None:
    torch.manual_seed(0)
    labels = torch.randint(3, (3000,))
    features = torch.randn(3000, 8) + 4 * torch.eye(3, 8)[labels]
    hits = nn.functional.one_hot(labels, 3).float()
    weight, bias = detectors(features, hits, probes(features, hits))
    scores = features @ weight.T + bias
    for k in range(3):
        assert scores[labels == k, k].mean() == pytest.approx(SCORE, abs=0.1)
        assert scores[labels != k, k].mean() == pytest.approx(-SCORE, abs=0.1)


def test_scores_count_what_captions_name() -> None:
    texts = ["a cat to the left of an owl", "a dog on a blue background", ""]
    examples = [PICTURE, PICTURE, Scene("red", (CAT,))]
    assert evaluate.nouns_in(texts[0]) == {"cat", "owl"}
    assert evaluate.recall(texts, examples) == 2 / 5
    assert evaluate.precision(texts, examples) == 2 / 3
    assert evaluate.background_hits(texts, examples) == [True]


def test_a_relation_counts_when_it_is_true() -> None:
    examples = [PICTURE] * 3
    texts = ["a cat above an owl", "an owl to the right of a cat", "a cat to the right of an owl"]
    hits = list(evaluate.relation_hits(texts, examples))
    assert hits.count(True) == 1
    assert len(hits) == 3


def test_the_scored_scenes_are_held_out() -> None:
    assert all(scene.split == "held_out" for scene in islice(scenes("held_out", evaluate.SEED), 50))
