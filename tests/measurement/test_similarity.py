"""Equation 1 against every pairwise cosine, spelled out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phasebench.catalog import SIMILARITY
from phasebench.measurement.similarity import SINK_RATIO, similarity


def masks(visual: list[int], text: list[int], length: int) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor([[i in members for i in range(length)]]) for members in (visual, text))  # type: ignore[return-value]


def pairwise(hidden: Tensor, a: list[int], b: list[int], *, same: bool) -> float:
    cosines = [
        float(torch.nn.functional.cosine_similarity(hidden[i].double(), hidden[j].double(), dim=0))
        for i in a
        for j in b
        if not (same and i == j)
    ]
    return sum(cosines) / len(cosines)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_mean_of_all_pairs(seed: int) -> None:
    hidden = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(seed))
    visual, text = [1, 2, 3, 4, 7], [0, 5, 6, 8, 9]
    curves = similarity(hidden, *masks(visual, text, 12))
    assert curves["inter"].item() == pytest.approx(pairwise(hidden[0], visual, text, same=False), abs=1e-6)
    assert curves["intra_visual"].item() == pytest.approx(
        pairwise(hidden[0], visual, visual, same=True), abs=1e-6
    )
    assert curves["intra_text"].item() == pytest.approx(pairwise(hidden[0], text, text, same=True), abs=1e-6)


def test_has_every_similarity_curve() -> None:
    curves = similarity(torch.randn(2, 6, 4), *masks([0, 1, 2], [3, 4, 5], 6))
    assert tuple(curves) == SIMILARITY
    assert all(values.shape == (2,) and values.dtype == torch.float32 for values in curves.values())


def test_padding_counts_nowhere() -> None:
    hidden = torch.randn(1, 8, 16)
    visual, text = masks([0, 1, 2], [3, 4, 5], 8)
    disturbed = hidden.clone()
    disturbed[:, 6:] = 1e6  # what is no number there, the probe takes out before
    for name, values in similarity(hidden, visual, text).items():
        assert torch.equal(values, similarity(disturbed, visual, text)[name]), name


def test_identical_states_have_similarity_one() -> None:
    hidden = torch.ones(1, 6, 16)
    curves = similarity(hidden, *masks([0, 1, 2], [3, 4, 5], 6))
    for name in SIMILARITY[:3]:
        assert curves[name].item() == pytest.approx(1.0, abs=1e-6)


def test_scale_does_not_matter() -> None:
    hidden = torch.randn(1, 6, 16)
    scaled = hidden * torch.tensor([1.0, 2, 3, 4, 5, 6])[None, :, None]
    for name in SIMILARITY[:3]:
        a, b = (similarity(h, *masks([0, 1, 2], [3, 4, 5], 6))[name] for h in (hidden, scaled))
        assert torch.allclose(a, b, atol=1e-6)


def test_a_sink_is_left_out_of_the_nosink_curves() -> None:
    hidden = torch.randn(1, 10, 16)
    hidden[0, 5] *= 100 * SINK_RATIO
    visual, text = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
    curves = similarity(hidden, *masks(visual, text, 10))
    assert curves["sinks"].item() == 1
    expected = pairwise(hidden[0], visual, text[1:], same=False)
    assert curves["inter_nosink"].item() == pytest.approx(expected, abs=1e-6)
    assert curves["inter_nosink"].item() != pytest.approx(curves["inter"].item(), abs=1e-4)


def test_a_sink_is_judged_by_its_own_modality() -> None:
    """Visual states may all be long: that makes none of them a sink."""
    hidden = torch.randn(1, 10, 16)
    hidden[0, :5] *= 100 * SINK_RATIO
    assert similarity(hidden, *masks([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], 10))["sinks"].item() == 0


@pytest.mark.parametrize(("norm", "sinks"), [(15.0, 0), (21.0, 1)])
def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two(norm: float, sinks: int) -> None:
    """Norms 1, 1, 3 and a long one have the median 2; torch's own would be 1."""
    hidden = torch.ones(1, 6, 1) * torch.tensor([1.0, 1, 3, norm, 1, 1])[None, :, None]
    assert similarity(hidden, *masks([0, 1, 2, 3], [4, 5], 6))["sinks"].item() == sinks


def test_one_position_has_no_pairs_within() -> None:
    curves = similarity(torch.randn(1, 4, 8), *masks([0], [1, 2, 3], 4))
    assert math.isnan(curves["intra_visual"].item())
    assert not math.isnan(curves["inter"].item())


def test_half_precision_is_summed_in_float32() -> None:
    hidden = torch.randn(1, 400, 64) + 3
    visual, text = masks(list(range(300)), list(range(300, 400)), 400)
    whole, half = (similarity(h, visual, text)["inter"].item() for h in (hidden, hidden.bfloat16()))
    assert half == pytest.approx(whole, abs=2e-3)


def test_a_state_of_zeros_has_no_cosine_with_itself_either() -> None:
    hidden = torch.zeros(1, 6, 16)
    hidden[0, [2, 5]] = 1.0
    curves = similarity(hidden, *masks([0, 1, 2], [3, 4, 5], 6))
    assert curves["intra_visual"].item() == curves["intra_text"].item() == 0.0
    assert curves["inter"].item() == pytest.approx(1 / 9)
