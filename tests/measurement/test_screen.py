"""The lens' screen: certain answers are those of the whole product, and what it cannot tell it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phasebench.datasets.sample import Sample
from phasebench.measurement import lens, screen
from phasebench.measurement.measure import measure
from phasebench.models.loading import Loaded
from phasebench.settings import Settings
from tests.support.synthetic import states

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


def screened(head: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = screen.screen_of(head, None)
    assert found is not None
    return found.top1(rows)


@pytest.mark.parametrize("entries", [130, 1024, 3001])
@pytest.mark.parametrize("width", [64, 320])
@torch.no_grad()
def test_proven_answers_are_those_of_the_whole_product(entries: int, width: int) -> None:
    head, rows = a_head(entries, width), states(200, width)
    token_P, logit_P, proven_P = screened(head, rows)
    wanted = head(rows).max(-1)
    assert proven_P.float().mean() > 0.1
    assert torch.equal(token_P[proven_P], wanted.indices[proven_P])
    assert torch.allclose(logit_P[proven_P], wanted.values[proven_P], rtol=1e-5)
    assert torch.equal(decoded(head, rows), wanted.indices)


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
def test_of_equal_entries_the_first_one_is_decoded() -> None:
    head, rows = a_head(3000, 64), states(60, 64)
    head.weight[1500:] = head.weight[:1500]
    token_P, _, proven_P = screened(head, rows)
    assert proven_P.float().mean() > 0.5
    assert bool((token_P[proven_P] < 1500).all())
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))


@pytest.mark.parametrize("apart", [1, 200])
@torch.no_grad()
def test_what_float32_cannot_tell_apart_float64_does(apart: int) -> None:
    """Of two entries a rounding apart, in one block or in two, the larger one, whichever comes first."""
    head, rows = a_head(3000, 64), states(60, 64)
    for first in range(0, 200, 2):
        head.weight[first + apart] = head.weight[first] * (1 + 2.0**-23)
    head.weight[400:] *= 0.1
    token_P, logit_P, proven_P = screened(head, rows)
    logits = rows.double() @ head.weight.double().T
    wanted = logits.max(-1)
    second = logits.scatter(1, wanted.indices[:, None], -torch.inf).amax(-1)
    unequal_P = wanted.values.float() > second.float()  # of entries equal in float32 the first counts
    told = proven_P & unequal_P
    assert bool((second > 0.999999 * wanted.values)[told].any())
    assert torch.equal(token_P[told], wanted.indices[told])
    assert torch.allclose(logit_P[proven_P], wanted.values.float()[proven_P], rtol=1e-6)


@torch.no_grad()
def test_of_states_that_are_not_finite_nothing_is_proven() -> None:
    """And a zero state, whose logits are all equal, decodes to the first entry."""
    head, rows = a_head(600, 64), states(20, 64)
    rows[3], rows[4, 2], rows[5, 1] = 0.0, torch.nan, torch.inf
    assert not screened(head, rows)[2][4:6].any()
    assert torch.equal(decoded(head, rows)[:5], head(rows).argmax(-1)[:5])


@torch.no_grad()
def test_many_hard_states_are_left_to_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero states keep every block: few of them are answered here, more are not."""
    head, rows = a_head(600, 64), torch.zeros(30, 64)
    monkeypatch.setattr(screen, "FEW", 29)
    assert not screened(head, rows)[2].any()
    monkeypatch.setattr(screen, "FEW", 30)
    token_P, logit_P, proven_P = screened(head, rows)
    assert proven_P.all()
    assert not token_P.any()
    assert not logit_P.any()


@torch.no_grad()
def test_a_head_that_changes_is_rounded_anew() -> None:
    head, rows = a_head(600, 64), states(20, 64)
    decoded(head, rows)
    head.weight.mul_(torch.randn(600, 1))
    assert torch.equal(decoded(head, rows), head(rows).argmax(-1))


@torch.no_grad()
def test_each_measurement_rounds_the_head_anew(
    tiny_llava: Loaded, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change through ``.data`` leaves no trace by which it could be seen."""

    def largest() -> np.ndarray:
        return measure(tiny_llava, "pics", samples, Settings(), lambda *_: None).curves.array("max_logit")

    head = tiny_llava.model.get_output_embeddings()
    assert screen.screen_of(head, None) is not None
    before, weight = largest(), head.weight.data.clone()
    try:
        head.weight.data *= 2
        assert np.allclose(largest(), 2 * before, rtol=1e-5)
    finally:
        head.weight.data.copy_(weight)
        screen.forget(head)


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
