"""The lens' screen: certain answers are those of the whole product, and what it cannot tell it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phasebench.measure import lens, screen
from tests.synthetic import states

if not screen._exact():
    pytest.skip("no exact 8-bit product on this machine", allow_module_level=True)


@pytest.fixture(autouse=True)
def _small_heads_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "WORTH", 0)
    monkeypatch.setattr(screen, "FEW", 1)


def a_head(entries: int, width: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, entries, bias=False)


def decoded(head: nn.Module, rows: Tensor, vocabulary: int | None = None) -> Tensor:
    decoder = lens.Decoder(None, head, vocabulary)
    decoder.add(rows)
    with torch.no_grad():
        return decoder.tokens()[0]


@pytest.mark.parametrize("entries", [130, 1024, 3001])
@pytest.mark.parametrize("width", [64, 320])
@torch.no_grad()
def test_certain_answers_are_those_of_the_whole_product(entries: int, width: int) -> None:
    head, rows = a_head(entries, width), states(200, width)
    found = screen.screen_of(head, None)
    assert found is not None
    token_P, certain_P = found.top1(rows)
    assert certain_P.float().mean() > 0.1
    assert torch.equal(token_P[certain_P], head(rows).argmax(-1)[certain_P])
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))


@torch.no_grad()
def test_the_bound_holds_for_every_entry() -> None:
    """No block whose reach is below the best holds a larger logit, whatever the states."""
    head, rows = a_head(2000, 128), states(64, 128)
    found = screen.screen_of(head, None)
    assert found is not None
    rotated = found._rotate(rows)
    norm = rotated.norm(dim=1, keepdim=True)
    rounded, step = screen._rounded(rotated, screen.LARGEST_STATE)
    lost = (rotated - rounded * step).norm(dim=1, keepdim=True)
    reach = found._scores(rounded) * step + lost * found._norm_K + (norm + lost) * found._error_K
    reach = reach + found._slack * norm * found._norm_K.amax()
    assert bool((reach >= screen._block_max((rows.double() @ head.weight.double().T).float())).all())


@torch.no_grad()
def test_equal_entries_are_not_certain_and_the_first_one_is_decoded() -> None:
    head, rows = a_head(600, 64), states(20, 64)
    head.weight[300:] = head.weight[:300]
    found = screen.screen_of(head, None)
    assert found is not None
    assert not found.top1(rows)[1].any()
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))
    assert bool((decoded(head, rows) < 300).all())


@torch.no_grad()
def test_states_that_are_zero_or_not_finite_are_not_certain() -> None:
    head, rows = a_head(600, 64), states(20, 64)
    rows[3], rows[4, 2], rows[5, 1] = 0.0, torch.nan, torch.inf
    found = screen.screen_of(head, None)
    assert found is not None
    assert not found.top1(rows)[1][3:6].any()
    assert torch.equal(decoded(head, rows)[:5], head(rows).argmax(-1)[:5])


@torch.no_grad()
def test_a_head_that_changes_is_rounded_anew() -> None:
    head, rows = a_head(600, 64), states(20, 64)
    decoded(head, rows)
    head.weight.mul_(torch.randn(600, 1))
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))


@torch.no_grad()
def test_entries_beyond_the_vocabulary_are_never_decoded() -> None:
    head, rows = a_head(600, 64), states(20, 64)
    head.weight[512:] *= 100
    assert torch.equal(decoded(head, rows, 512), head(rows)[:, :512].argmax(-1))
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))


def test_heads_that_are_more_than_a_float32_weight_have_none() -> None:
    class Head(nn.Linear):
        pass

    hooked = a_head(600, 64)
    hooked.register_forward_hook(lambda _, __, out: -out)
    others = [
        Head(64, 600, bias=False),
        nn.Linear(64, 600),
        a_head(600, 60),
        a_head(600, 64).bfloat16(),
        hooked,
    ]
    assert [screen.screen_of(head, None) for head in others] == [None] * 5
