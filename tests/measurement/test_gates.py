"""Gates between attention and output projection, in the precision that accelerators calculate in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phasebench.measurement import attention
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from tests.support import zoo

GATED = ("dots3_note", "muse_glimmer")
"""Types that measure whole, with a gate in every layer or nearly so."""


def gated_model(name: str, words: int = 0) -> tuple[Any, dict[str, Any]]:
    """A gated model in bfloat16, its prompt so many words longer."""
    specimen = zoo.specimen(name)
    inputs = zoo.with_mask(specimen.inputs)
    torch.manual_seed(7)
    for key in zoo.per_position(inputs) if words else ():
        last = inputs[key][:, -1:].expand(-1, words, *inputs[key].shape[2:])
        more = torch.randint(10, 60, (1, words)) if key == "input_ids" else last
        inputs[key] = torch.cat([inputs[key], more], dim=1)
    halved = {
        key: value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in inputs.items()
    }
    return specimen.model.bfloat16(), halved


@pytest.fixture(params=GATED)
def gated(request: pytest.FixtureRequest) -> Iterator[tuple[Any, dict[str, Any]]]:
    with zoo.quiet():
        yield gated_model(request.param)


def test_a_gates_factors_stay_exactly_when_its_input_is_disturbed(gated: tuple[Any, dict[str, Any]]) -> None:
    model, inputs = gated
    anatomy = dissect(model, inputs)
    outcome = self_test(anatomy, inputs)
    assert outcome.unmeasured == {}
    assert len(outcome.gates) >= 2
    assert set(outcome.gates.values()) == {0.0}


def test_a_gates_factors_are_quotients_of_the_attentions_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sigmoid's are at most 1; quotients of the contributions' sum, rounded otherwise, reach 1.8."""
    factors_by_call: list[Tensor] = []
    gate = attention.gate

    def recording_gate(*args: Tensor) -> Tensor:
        factors_by_call.append(gate(*args))
        return factors_by_call[-1]

    monkeypatch.setattr(attention, "gate", recording_gate)
    with zoo.quiet():
        model, inputs = gated_model("muse_glimmer", 400)
        (row,) = probed_pass(dissect(model, inputs), inputs)
    assert len(factors_by_call) == int(np.isfinite(row.norms).all(axis=1).sum())
    assert all(0 <= float(factors.min()) <= float(factors.max()) <= 1 for factors in factors_by_call)


def test_a_norm_that_changes_its_input_in_place_is_no_gate() -> None:
    """It writes into the attention's own output, which must not change the quotients."""

    class InPlace(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return x.copy_(self.norm(x)) * 1.5

    with zoo.quiet():
        specimen = zoo.specimen("kosmos-2")
        for module in specimen.model.modules():
            if getattr(module, "inner_attn_ln", None) is not None:
                module.inner_attn_ln = InPlace(module.inner_attn_ln)
        inputs = zoo.with_mask(specimen.inputs)
        outcome = self_test(dissect(specimen.model, inputs), inputs)
    assert "attention" in outcome.unmeasured
    assert min(outcome.gates.values()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_factors_are_zero_where_the_attentions_output_is_zero(dtype: torch.dtype) -> None:
    """In float16 a small share of something small is 0."""
    attended = torch.tensor([[[4e-4, 2e-4, 0.0, 0.0]], [[0.0] * 4]], dtype=dtype)
    factors = attention.gate(attended / 2, attended, torch.tensor([0, 0]))
    assert factors.tolist() == [[[0.5, 0.5, 0.0, 0.0]], [[0.0] * 4]]


def test_each_call_keeps_the_eager_attention_it_names() -> None:
    """Llama 4's file has two: the vision model's scales by itself, the language model's by an argument."""
    with zoo.quiet():
        specimen = zoo.specimen("llama4")
        specimen.model.set_attn_implementation("eager")
        anatomy = dissect(specimen.model, specimen.inputs)
        outcome = self_test(anatomy, specimen.inputs)
    assert outcome.bit_equal
    assert outcome.unmeasured == {}
