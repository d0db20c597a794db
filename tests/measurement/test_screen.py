"""The screen: proven answers are those of the whole product, and the product decides all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phasebench.datasets.sample import Sample
from phasebench.measurement import eight_bits, screen
from phasebench.measurement.measure import measure
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support.synthetic import states

if not eight_bits.is_exact():
    pytest.skip("no exact 8-bit product on this machine", allow_module_level=True)


@pytest.fixture(autouse=True)
def _screen_small_heads_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "MIN_ELEMENTS", 0)
    monkeypatch.setattr(eight_bits, "HARD_STATES", 1)


def random_head(entries: int, width: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, entries, bias=False)


def top1_tokens(head: nn.Module, rows: Tensor, vocabulary: int | None = None) -> Tensor:
    return screen.top1(head, rows, vocabulary)[0]


def eight_bit_head(head: nn.Module) -> eight_bits.EightBitHead:
    screened = screen.screen_of_head(head, None)
    assert screened is not None
    return screened


@pytest.mark.parametrize("entries", [130, 1024, 3001])
@pytest.mark.parametrize("width", [64, 320])
@torch.no_grad()
def test_proven_answers_are_those_of_the_whole_product(entries: int, width: int) -> None:
    head, rows = random_head(entries, width), states(200, width)
    token_P, logit_P, proven_P = eight_bit_head(head).top1(rows)
    expected = head(rows).max(-1)
    assert proven_P.float().mean() > 0.1
    assert torch.equal(token_P[proven_P], expected.indices[proven_P])
    assert torch.allclose(logit_P[proven_P], expected.values[proven_P], rtol=1e-5)
    assert torch.equal(top1_tokens(head, rows), expected.indices)


@torch.no_grad()
def test_the_bound_holds_for_every_entry() -> None:
    """No block whose reach is below the best holds a larger logit, whatever the states."""
    head, rows = random_head(2000, 128), states(64, 128)
    screened = eight_bit_head(head)
    rotated = screened._rotate(rows)
    norm = rotated.norm(dim=1, keepdim=True)
    rounded, step = eight_bits._round(rotated, eight_bits.LARGEST_STATE)
    lost = (rotated - rounded * step).norm(dim=1, keepdim=True)
    reach = screened._scores(rounded) * step + lost * screened._norm_K + (norm + lost) * screened._error_K
    reach = reach + screened._slack * norm * screened._norm_K.amax()
    largest = eight_bits._block_max((rows.double() @ head.weight.double().T).float())
    assert bool((reach >= largest).all())


@torch.no_grad()
def test_of_equal_entries_the_first_one_is_decoded() -> None:
    head, rows = random_head(3000, 64), states(60, 64)
    head.weight[1500:] = head.weight[:1500]
    token_P, _, proven_P = eight_bit_head(head).top1(rows)
    assert proven_P.float().mean() > 0.5
    assert bool((token_P[proven_P] < 1500).all())
    assert torch.equal(top1_tokens(head, rows), head(rows).argmax(-1))


@pytest.mark.parametrize("distance", [1, 200])
@torch.no_grad()
def test_float64_decides_between_entries_that_float32_cannot_order(distance: int) -> None:
    """Of two entries a rounding apart, in one block or in two, the larger one, whichever comes first."""
    head, rows = random_head(3000, 64), states(60, 64)
    for first in range(0, 200, 2):
        head.weight[first + distance] = head.weight[first] * (1 + 2.0**-23)
    head.weight[400:] *= 0.1
    token_P, logit_P, proven_P = eight_bit_head(head).top1(rows)
    logits = rows.double() @ head.weight.double().T
    expected = logits.max(-1)
    second = logits.scatter(1, expected.indices[:, None], -torch.inf).amax(-1)
    unequal_P = expected.values.float() > second.float()  # of entries equal in float32 the first counts
    compared_P = proven_P & unequal_P
    assert bool((second > 0.999999 * expected.values)[compared_P].any())
    assert torch.equal(token_P[compared_P], expected.indices[compared_P])
    assert torch.allclose(logit_P[proven_P], expected.values.float()[proven_P], rtol=1e-6)


@torch.no_grad()
def test_states_that_are_not_finite_are_not_proven() -> None:
    """And a zero state, whose logits are all equal, decodes to the first entry."""
    head, rows = random_head(600, 64), states(20, 64)
    rows[3], rows[4, 2], rows[5, 1] = 0.0, torch.nan, torch.inf
    assert not eight_bit_head(head).top1(rows)[2][4:6].any()
    assert torch.equal(top1_tokens(head, rows)[:5], head(rows).argmax(-1)[:5])


@torch.no_grad()
def test_many_hard_states_are_left_to_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero states leave every block open: a few of them are proven here, more are not."""
    head, rows = random_head(600, 64), torch.zeros(30, 64)
    monkeypatch.setattr(eight_bits, "HARD_STATES", 29)
    assert not eight_bit_head(head).top1(rows)[2].any()
    monkeypatch.setattr(eight_bits, "HARD_STATES", 30)
    token_P, logit_P, proven_P = eight_bit_head(head).top1(rows)
    assert proven_P.all()
    assert not token_P.any()
    assert not logit_P.any()


@torch.no_grad()
def test_a_head_that_changes_in_place_is_rounded_anew() -> None:
    head, rows = random_head(600, 64), states(20, 64)
    top1_tokens(head, rows)
    head.weight.mul_(torch.randn(600, 1))
    assert torch.equal(top1_tokens(head, rows), head(rows).argmax(-1))


@torch.no_grad()
def test_each_measurement_rounds_the_head_anew(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change through ``.data`` leaves no trace by which it could be noticed."""

    def largest_logits() -> np.ndarray:
        return measure(tiny_llava, "pics", samples, Settings(), lambda *_: None).curves.array("max_logit")

    head = tiny_llava.model.get_output_embeddings()
    assert screen.screen_of_head(head, None) is not None
    before, weight = largest_logits(), head.weight.data.clone()
    try:
        head.weight.data *= 2
        assert np.allclose(largest_logits(), 2 * before, rtol=1e-5)
    finally:
        head.weight.data.copy_(weight)
        screen.forget(head)


@torch.no_grad()
def test_entries_beyond_the_vocabulary_are_never_decoded() -> None:
    head, rows = random_head(600, 64), states(20, 64)
    head.weight[512:] *= 100
    assert torch.equal(top1_tokens(head, rows, 512), head(rows)[:, :512].argmax(-1))
    assert torch.equal(top1_tokens(head, rows), head(rows).argmax(-1))


def test_heads_that_are_more_than_a_float32_weight_are_not_screened() -> None:
    class Head(nn.Linear):
        pass

    with_hook = random_head(600, 64)
    with_hook.register_forward_hook(lambda _, __, out: -out)
    heads = [
        Head(64, 600, bias=False),
        nn.Linear(64, 600),
        random_head(600, 60),
        random_head(600, 64).bfloat16(),
        with_hook,
    ]
    assert [screen.screen_of_head(head, None) for head in heads] == [None] * 5
