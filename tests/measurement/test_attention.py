"""Norm-based attention against per-head sums, spelled out in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.pytorch_utils import Conv1D

from phasebench.catalog import ATTENTION
from phasebench.measurement.attention import LastRow, attention_curves, gate, project, weighted_values

__all__ = ["eager_attention_forward"]
"""Looked for in the file that defines an attention module; llama's stands for it here."""


class Attention(nn.Module):
    """As much of an attention module as an eager function reads."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.training = False


def query_key_value(*, heads: int = 4, kv: int = 2, n: int = 7, e: int = 8) -> tuple[Tensor, ...]:
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


def contributions(
    module: nn.Module,
    output: nn.Module,
    states: tuple[Tensor, ...],
    mask: Tensor | None,
    last_B: Tensor,
    **kwargs: object,
) -> Tensor:
    return project(output, weighted_values(module, states, mask, LastRow(last_B), {"scaling": 0.3, **kwargs}))  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kv", [1, 2, 4])
def test_equals_the_sum_over_heads(kv: int, bias: bool) -> None:
    query, key, value = query_key_value(kv=kv)
    output = nn.Linear(32, 16, bias=bias)
    last = torch.tensor([6, 4])
    module = Attention(4 // kv)
    added = contributions(module, output, (query, key, value), None, last)
    for row, t in enumerate(last.tolist()):
        expected = spelled_out(query, key, value, output, row, t, 0.3)
        assert torch.allclose(added[row].double(), expected, atol=1e-6)


def test_a_boolean_and_an_additive_mask_agree() -> None:
    states = query_key_value()
    output, last = nn.Linear(32, 16), torch.tensor([6, 6])
    allowed = torch.ones(2, 1, 7, 7).tril().bool()
    allowed[0, :, :, :2] = False
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    a, b = (contributions(Attention(2), output, states, mask, last) for mask in (allowed, additive))
    assert torch.equal(a, b)
    assert a[0, :2].abs().max() == 0
    assert a[1, :2].abs().max() > 0


def test_the_row_is_that_of_the_last_text_token() -> None:
    query, key, value = query_key_value()
    output = nn.Linear(32, 16, bias=False)
    added = contributions(Attention(2), output, (query, key, value), None, torch.tensor([3, 3]))
    assert added[:, 4:].abs().max() == 0


class Wrapped(nn.Linear):
    """As an adapter or a quantised layer is: more than its weight."""


@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
def test_the_output_bias_is_left_out(kind: type[nn.Linear]) -> None:
    output = kind(8, 8)
    stacked = torch.randn(2, 3, 8)
    assert torch.allclose(project(output, stacked), stacked @ output.weight.T, atol=1e-6)


def test_the_bias_of_gpts_projection_is_left_out_too() -> None:
    output = Conv1D(8, 6)
    nn.init.normal_(output.bias)
    stacked = torch.randn(2, 3, 6)
    assert torch.allclose(project(output, stacked), stacked @ output.weight, atol=1e-6)


@pytest.mark.parametrize("conv", [False, True])
def test_a_bias_does_not_round_small_contributions_in_16_bits(conv: bool) -> None:
    output = (Conv1D(64, 64) if conv else nn.Linear(64, 64)).bfloat16()
    nn.init.normal_(output.bias, std=3.0)
    stacked = 0.01 * torch.randn(1, 50, 64).bfloat16()
    weight = output.weight if conv else output.weight.T
    expected = (stacked.float() @ weight.float()).norm(dim=-1)
    assert torch.allclose(project(output, stacked).float().norm(dim=-1), expected, rtol=0.01)


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
    norms = torch.tensor([[1.0] * 6 + [0.0] * 2])
    curves = attention_curves(norms, visual, ~visual, torch.tensor([5]))
    assert curves["total"].item() == 6
    assert curves["share_visual"].item() == 0
    assert curves["ratio_first5"].item() == 1


def test_positions_after_t_count_in_an_encoder() -> None:
    visual = torch.tensor([[False] * 6 + [True] * 2])
    curves = attention_curves(torch.ones(1, 8), visual, ~visual, torch.tensor([5]))
    assert curves["total"].item() == 8
    assert curves["share_visual"].item() == 0.25


def test_without_a_mask_an_encoder_attends_everywhere() -> None:
    states = query_key_value()
    output, last = nn.Linear(32, 16), torch.tensor([2, 2])
    everywhere = torch.zeros(2, 1, 7, 7)
    expected = contributions(Attention(2), output, states, everywhere, last)
    module = Attention(2)
    module.is_causal = False  # type: ignore[assignment]
    assert torch.equal(contributions(module, output, states, None, last), expected)
    assert torch.equal(contributions(Attention(2), output, states, None, last, is_causal=False), expected)
    causal = contributions(Attention(2), output, states, None, last, is_causal=None)
    assert causal[:, 3:].abs().max() == 0


def test_a_mask_that_all_queries_share_is_used_as_it_is() -> None:
    states = query_key_value()
    output, last = nn.Linear(32, 16), torch.tensor([6, 6])
    shared_mask = torch.zeros(2, 1, 1, 7)
    shared_mask[:, :, :, :2] = torch.finfo(torch.float32).min
    added = contributions(Attention(2), output, states, shared_mask, last)
    assert torch.equal(
        added, contributions(Attention(2), output, states, shared_mask.expand(2, 1, 7, 7), last)
    )
    assert added[:, :2].abs().max() == 0


def test_arguments_with_a_row_per_query_are_cut_to_row_t() -> None:
    """T5's position bias has a row per query; a scale does not."""
    arguments: dict[str, Tensor] = {}

    class Biased(Attention):
        pass

    def eager(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **kwargs: Any
    ) -> Any:
        arguments.update(kwargs)
        return eager_attention_forward(module, query, key, value, mask, scaling=0.3)

    bias, scale = torch.randn(1, 4, 7, 7), torch.ones(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("phasebench.measurement.attention.eager_attention", lambda _: eager)
        contributions(
            Biased(2),
            nn.Linear(32, 16),
            query_key_value(),
            None,
            torch.tensor([6, 4]),
            position_bias=bias,
            scale=scale,
        )
    assert torch.equal(arguments["position_bias"][:, :, 0], torch.stack([bias[0, :, 6], bias[0, :, 4]]))
    assert arguments["scale"] is scale


def test_a_gate_is_the_quotient_at_t() -> None:
    attended, factors = torch.rand(2, 7, 8) + 0.1, torch.rand(2, 8)
    last = torch.tensor([6, 2])
    projected = torch.zeros(2, 7, 8)
    projected[torch.arange(2), last] = attended[torch.arange(2), last] * factors
    assert torch.allclose(gate(projected, attended, last)[:, 0], factors, atol=1e-6)


def test_a_gates_factor_is_zero_where_the_attentions_output_is_zero() -> None:
    attended = torch.tensor([[[9.0, 9.0], [2.0, 0.0]]])
    assert gate(torch.ones(1, 2, 2), attended, torch.tensor([1]))[0, 0].tolist() == [0.5, 0.0]
