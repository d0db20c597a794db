"""The accepted error follows what a projection rounds, and stays small for a projection that is wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phasebench.measurement.rounding import COMPLETENESS, LARGEST, accepted_error, rounding

STATES_BD = torch.randn(2, 64, generator=torch.Generator().manual_seed(3))


class Quantizing(nn.Linear):
    """W8A8: the input is rounded to 255 steps for each position."""

    def forward(self, states: Tensor) -> Tensor:
        scale = states.abs().amax(-1, keepdim=True).clamp_min(1e-9) / 127
        return super().forward((states / scale).round() * scale)


class Bent(nn.Linear):
    """Not linear at all."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states).relu()


def seeded(kind: type[nn.Linear]) -> nn.Linear:
    torch.manual_seed(0)
    return kind(64, 48).requires_grad_(requires_grad=False)


def test_a_plain_projection_has_the_limit_of_its_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert accepted_error(seeded(nn.Linear), STATES_BD, dtype) == COMPLETENESS[dtype]


def test_a_projection_that_rounds_its_input_may_miss_by_a_few_times_that() -> None:
    projection = seeded(Quantizing)
    missed = rounding(projection, STATES_BD)
    assert 1e-3 < missed < 2e-2
    assert accepted_error(projection, STATES_BD, torch.float32) == 5 * missed


def test_a_wrapped_forward_is_measured_too() -> None:
    projection = seeded(nn.Linear)
    plain = projection.forward
    projection.forward = lambda states: plain(states.bfloat16().float())  # type: ignore[assignment]
    assert accepted_error(projection, STATES_BD, torch.float32) > COMPLETENESS[torch.float32]


def test_the_bias_is_no_rounding() -> None:
    assert rounding(seeded(nn.Linear), STATES_BD) < 1e-6


def test_what_is_not_linear_gets_no_more_than_the_largest() -> None:
    assert rounding(seeded(Bent), STATES_BD) > LARGEST
    assert accepted_error(seeded(Bent), STATES_BD, torch.float32) == LARGEST
