"""Norm-based attention against per-head sums, spelled out in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import eager_attention_forward

from phasebench.measure.attention import FIRST, attention_curves, contributions, project
from phasebench.names import ATTENTION


class Attention(nn.Module):
    """As much of an attention module as an eager function reads."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.training = False


def example(*, heads: int = 4, kv: int = 2, n: int = 7, e: int = 8) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, h, n, e, generator=g) for h in (heads, kv, kv))
    return query, key, value


def spelled_out(
    query: Tensor, key: Tensor, value: Tensor, output: nn.Linear, row: int, t: int, scale: float
) -> Tensor:
    """a_j as vectors [N, D]: for every head its own slice of W_O, one position at a time."""
    heads, kv, e = query.shape[1], key.shape[1], query.shape[3]
    added = torch.zeros(key.shape[2], output.out_features, dtype=torch.float64)
    weight = output.weight.detach().double()
    for h in range(heads):
        group = h // (heads // kv)
        scores = torch.tensor(
            [float(query[row, h, t].double() @ key[row, group, j].double()) * scale for j in range(t + 1)]
        )
        alpha = scores.double().softmax(0)
        for j in range(t + 1):
            added[j] += alpha[j] * (weight[:, h * e : (h + 1) * e] @ value[row, group, j].double())
    return added


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kv", [1, 2, 4])
def test_equals_the_sum_over_heads(kv: int, bias: bool) -> None:
    query, key, value = example(kv=kv)
    output = nn.Linear(32, 16, bias=bias)
    last = torch.tensor([6, 4])
    module = Attention(4 // kv)
    added = contributions(
        module, eager_attention_forward, output, (query, key, value), None, last, {"scaling": 0.3}
    )
    for row, t in enumerate(last.tolist()):
        expected = spelled_out(query, key, value, output, row, t, 0.3)
        assert torch.allclose(added[row].double(), expected, atol=1e-6)


def test_a_boolean_mask_and_an_additive_one_agree() -> None:
    states = example()
    output, last = nn.Linear(32, 16), torch.tensor([6, 6])
    allowed = torch.ones(2, 1, 7, 7).tril().bool()
    allowed[0, :, :, :2] = False
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    a, b = (
        contributions(Attention(2), eager_attention_forward, output, states, mask, last, {"scaling": 0.3})
        for mask in (allowed, additive)
    )
    assert torch.equal(a, b)
    assert a[0, :2].abs().max() == 0
    assert a[1, :2].abs().max() > 0


def test_the_row_is_the_last_text_tokens_not_the_last_one() -> None:
    query, key, value = example()
    output = nn.Linear(32, 16, bias=False)
    added = contributions(
        Attention(2),
        eager_attention_forward,
        output,
        (query, key, value),
        None,
        torch.tensor([3, 3]),
        {"scaling": 0.3},
    )
    assert added[:, 4:].abs().max() == 0


def test_the_output_bias_is_left_out() -> None:
    output = nn.Linear(8, 8)
    stacked = torch.randn(2, 3, 8)
    assert torch.allclose(project(output, stacked), stacked @ output.weight.T, atol=1e-6)


def test_the_curves_of_known_norms() -> None:
    norms = torch.tensor([[4.0, 4, 1, 1, 1, 2, 2, 1]])
    visual = torch.tensor([[False, True, True, True, True, True, True, False]])
    curves = attention_curves(norms, visual, ~visual, torch.tensor([7]))
    assert tuple(curves) == ATTENTION
    assert curves["total"].item() == 16
    assert curves["share_first5"].item() == 11 / 16
    assert curves["share_first5_visual"].item() == 9 / 16
    assert curves["share_visual"].item() == 11 / 16
    assert curves["share_text"].item() == 5 / 16
    assert curves["share_self"].item() == 1 / 16
    assert curves["ratio_first5"].item() == pytest.approx((11 / 5) / (5 / 3))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_counts_nowhere(side: str) -> None:
    norms, visual = torch.rand(1, 9), torch.arange(9)[None] < 5
    alone = attention_curves(norms, visual, ~visual, torch.tensor([8]))
    pad = torch.zeros(1, 3, dtype=torch.bool)
    noise, shift = torch.full((1, 3), 99.0), 3 if side == "left" else 0

    def padded(x: Tensor, fill: Tensor) -> Tensor:
        return torch.cat([fill, x] if side == "left" else [x, fill], dim=1)

    curves = attention_curves(
        padded(norms, noise), padded(visual, pad), padded(~visual, pad), torch.tensor([8 + shift])
    )
    for name in ATTENTION:
        assert curves[name].item() == pytest.approx(alone[name].item(), rel=1e-6), name


def test_positions_after_t_count_nowhere() -> None:
    visual = torch.tensor([[False] * 6 + [True] * 2])
    curves = attention_curves(torch.ones(1, 8), visual, ~visual, torch.tensor([5]))
    assert curves["total"].item() == 6
    assert curves["share_visual"].item() == 0


def test_first_is_the_papers_number() -> None:
    assert FIRST == 5
