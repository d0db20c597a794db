"""What the self-test accepts and what it refuses: each fault that it is meant for is planted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.errors import InputError
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.positions import Positions
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import find_layers, find_projector, image_token_id
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import bundled_models
from phasebench.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

Pictures = list["Image.Image"]


def _copy(loaded: LoadedModel) -> LoadedModel:
    return LoadedModel(
        loaded.name, copy.deepcopy(loaded.model), loaded.processor, loaded.prompt, loaded.checkpoint
    )


def test_the_tiny_models_pass(tiny: LoadedModel, pictures: Pictures) -> None:
    inputs = tiny.inputs(pictures[:2])
    outcome = self_test(dissect(tiny.model, inputs), inputs)
    assert outcome.bit_equal
    assert outcome.attention_rows == outcome.layers == 6
    assert max(outcome.completeness.values()) < 1e-5
    assert outcome.lens_agreement == 1
    assert not outcome.unmeasured
    assert not outcome.gates


class Wrapped(nn.Module):
    """Something between attention and output projection."""

    def __init__(self, between: Callable[[Tensor], Tensor], output: nn.Module) -> None:
        super().__init__()
        self.between, self.output = between, output

    def forward(self, states: Tensor) -> Tensor:
        projected: Tensor = self.output(self.between(states))
        return projected


def _attention(loaded: LoadedModel, layer: int) -> Any:
    block: Any = find_layers(loaded.model.get_decoder())[layer - 1]
    return block.self_attn


def _put_before_projection(loaded: LoadedModel, layer: int, between: Callable[[Tensor], Tensor]) -> None:
    attention = _attention(loaded, layer)
    attention.o_proj = Wrapped(between, attention.o_proj)


def test_a_gate_passes_its_contributions_one_by_one(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    """The factors are read, stay the same when the attention's output is disturbed, and are used."""
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    factors = torch.rand(64, generator=torch.Generator().manual_seed(0))
    _put_before_projection(loaded, 3, lambda states: states * factors)
    anatomy = dissect(loaded.model, inputs)
    outcome = self_test(anatomy, inputs)
    assert [site.gated for site in anatomy.sites.values()] == [False, False, True, False, False, False]
    assert outcome.gates[3] < 1e-5
    assert outcome.completeness[3] < 1e-5
    assert not outcome.unmeasured
    gated = probed_pass(outcome.restrict(anatomy), inputs)[0]
    output = _attention(loaded, 3).o_proj.output
    folded = _copy(tiny_llava)
    plain = _attention(folded, 3).o_proj
    with torch.no_grad():
        plain.weight.copy_(output.weight * factors)
    expected = probed_pass(dissect(folded.model, inputs), inputs)[0]
    assert np.allclose(gated.norms, expected.norms, rtol=1e-4)


def test_a_norm_in_a_gates_place_is_not_measured(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    _put_before_projection(loaded, 3, lambda states: F.layer_norm(states, states.shape[-1:]))
    anatomy = dissect(loaded.model, inputs)
    outcome = self_test(anatomy, inputs)
    assert outcome.unmeasured == {
        "attention": (
            "what lies between attention and output projection is not an elementwise gate at layer 3"
        )
    }
    restricted = outcome.restrict(anatomy)
    assert sorted(site.layer for site in restricted.sites.values()) == [1, 2, 4, 5, 6]
    assert restricted.unmeasured == outcome.unmeasured
    row = probed_pass(restricted, inputs)[0]
    assert np.isnan(row.curves["total"]).tolist() == [True, False, False, True, False, False, False]
    assert np.isnan(row.norms[2]).all()
    assert np.isfinite(row.norms[[0, 1, 3, 4, 5]]).all()


def test_something_after_the_output_projection_is_refused(
    tiny_llava: LoadedModel, pictures: Pictures
) -> None:
    """Its output is then no longer the sum of the contributions."""
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    output = _attention(loaded, 3).o_proj
    calls: list[int] = []

    def add_more(_: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor | None:
        calls.append(1)
        return out + args[0].square().mean(-1, keepdim=True)

    output.register_forward_hook(add_more)
    anatomy = dissect(loaded.model, inputs)
    outcome = self_test(anatomy, inputs)
    assert outcome.unmeasured == {
        "attention": "the summed contributions are not the attention's output at layer 3"
    }


def test_the_anatomy_that_is_tested_does_not_change(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    _put_before_projection(loaded, 3, lambda states: F.layer_norm(states, states.shape[-1:]))
    anatomy = dissect(loaded.model, inputs)
    outcome = self_test(anatomy, inputs)
    assert outcome.refused_layers == {3}
    assert outcome.attention_rows == 5
    assert not anatomy.unmeasured
    assert len(anatomy.sites) == 6


def test_layers_without_softmax_attention_are_named(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(tiny_llava.model, inputs)
    anatomy.sites.popitem()
    outcome = self_test(anatomy, inputs)
    assert outcome.attention_rows == 5
    assert outcome.unmeasured == {"attention": "no softmax attention is seen at layer 6"}


def test_a_wrong_final_norm_is_refused(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(tiny_llava.model, inputs)
    scale = torch.linspace(-3, 3, 64)

    class Wrong(nn.Module):
        def forward(self, states: Tensor) -> Tensor:
            return states * scale

    anatomy.final_norm = Wrong()
    outcome = self_test(anatomy, inputs)
    assert "the lens at the last layer gives the logits' token at" in outcome.unmeasured["lens"]
    row = probed_pass(outcome.restrict(anatomy), inputs)[0]
    assert row.tokens.size == 0
    assert np.isfinite(row.curves["inter"]).all()


def test_with_nothing_left_a_model_is_refused(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(tiny_llava.model, inputs)
    anatomy.sites.clear()
    anatomy.unmeasured = {"similarity": "so", "lens": "so"}
    with pytest.raises(InputError, match=r"llava cannot be measured: similarity: so; .*at every layer"):
        self_test(anatomy, inputs)


def test_a_corrupt_output_head_is_not_called_a_model_that_is_not_deterministic(
    tiny_llava: LoadedModel, pictures: Pictures
) -> None:
    """All states are finite: only the logits show it, and NaN does not even equal itself."""
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    anatomy = dissect(loaded.model, inputs)
    with torch.no_grad():
        anatomy.head.weight[-1, 0] = float("nan")  # type: ignore[union-attr, operator]
    with pytest.raises(InputError, match=r"logits are not; a corrupt weight of norm or output head"):
        self_test(anatomy, inputs)


def test_a_probe_that_disturbs_is_refused(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    anatomy = dissect(loaded.model, inputs)

    def disturbed(_: nn.Module, __: Any, out: Any) -> Any:
        return out + 1e-3 * len(anatomy.layers[0]._forward_pre_hooks)  # the probe's

    loaded.model.get_decoder().norm.register_forward_hook(disturbed)
    with pytest.raises(InputError, match="the probe changes its logits"):
        self_test(anatomy, inputs)


def test_the_anatomy_has_every_part(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy = dissect(tiny.model, tiny.inputs(pictures[:1]))
    assert [type(layer).__name__ for layer in anatomy.layers] == ["LlamaDecoderLayer"] * 6
    blocks: list[Any] = anatomy.layers
    outputs = [block.self_attn.o_proj for block in blocks]
    assert [site.output for site in anatomy.sites.values()] == outputs
    assert [site.layer for site in anatomy.sites.values()] == [1, 2, 3, 4, 5, 6]
    assert type(anatomy.final_norm).__name__ == "LlamaRMSNorm"
    assert anatomy.head is tiny.model.get_output_embeddings()
    assert anatomy.image_token == tiny.processor.tokenizer.convert_tokens_to_ids("<image>")
    assert find_projector(tiny.model) in set(tiny.model.modules())


def test_a_model_without_image_token_is_refused(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    loaded.model.config.image_token_id = None
    assert image_token_id(loaded.model) is None
    with pytest.raises(InputError, match="neither the configuration nor the inputs give the image's pos"):
        dissect(loaded.model, inputs)


def test_a_decoder_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no decoder layers found"):
        find_layers(nn.Linear(2, 2))


def test_layers_without_a_declared_class_are_the_longest_module_list() -> None:
    stack = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert find_layers(nn.Sequential(nn.ModuleList([nn.Linear(1, 1)]), nn.Sequential(stack))) == list(stack)


def test_positions_and_layout() -> None:
    ids = torch.tensor([[0, 0, 1, 9, 9, 4, 5], [1, 9, 9, 4, 5, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    positions = Positions.from_inputs({"input_ids": ids, "attention_mask": mask}, 9)
    assert positions.last_B.tolist() == [6, 4]
    assert positions.layout(0) == positions.layout(1) == {"length": 5, "visual": [[1, 3]], "text": 3}


def test_the_last_text_token_is_before_an_image_at_the_end() -> None:
    positions = Positions.from_inputs({"input_ids": torch.tensor([[1, 4, 9, 9]])}, 9)
    assert positions.last_B.tolist() == [1]
    assert positions.layout(0)["visual"] == [[2, 4]]


@pytest.mark.parametrize(("ids", "kind"), [([[1, 2, 3]], "image tokens"), ([[9, 9]], "text tokens")])
def test_a_prompt_without_image_or_text_is_refused(ids: list[list[int]], kind: str) -> None:
    with pytest.raises(InputError, match=f"no {kind}") as refusal:
        Positions.from_inputs({"input_ids": torch.tensor(ids)}, 9)
    assert refusal.value.remedy == "prompt"


def test_a_model_that_is_not_deterministic_is_not_blamed_on_the_probe(
    tiny_llava: LoadedModel, pictures: Pictures
) -> None:
    loaded = _copy(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    anatomy = dissect(loaded.model, inputs)
    loaded.model.get_decoder().norm.register_forward_hook(lambda _, __, out: out + torch.randn_like(out))
    with pytest.raises(InputError, match="its own forward pass gives other logits each time"):
        self_test(anatomy, inputs)


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-instructblip"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_measured_whole(cache: Path, pictures: Pictures, name: str, dtype: str) -> None:
    """InstructBLIP keeps its query tokens, its first parameter, in float32 all the same."""
    spec = next(spec for spec in bundled_models() if spec.name == name)
    loaded = load(spec, cache, Settings(device="cpu", dtype=dtype))
    assert str(loaded.dtype) == f"torch.{dtype}"
    inputs = loaded.inputs(pictures[:1])
    assert self_test(dissect(loaded.model, inputs), inputs).unmeasured == {}


def autocast_around_forward(loaded: LoadedModel) -> None:
    """What accelerate's ``prepare`` does with ``mixed_precision="bf16"``."""
    inside = torch.autocast("cpu", torch.bfloat16)(loaded.model.forward)
    loaded.model.forward = convert_outputs_to_fp32(inside)


def test_a_model_under_an_autocast_is_measured_whole(tiny: LoadedModel, pictures: Pictures) -> None:
    """The blocks' products are bfloat16's, with weights in float32."""
    inputs = tiny.inputs(pictures[:2])
    with torch.autocast("cpu", torch.bfloat16):
        anatomy = dissect(tiny.model, inputs)
        outcome = self_test(anatomy, inputs)
        rows = probed_pass(anatomy, inputs)
    assert anatomy.dtype is torch.bfloat16
    assert max(outcome.completeness.values()) > 1e-3
    assert outcome.unmeasured == {}
    assert len(rows[0].tokens) > 0


def test_an_autocast_in_the_models_own_forward_is_seen(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    loaded = _copy(tiny_llava)
    autocast_around_forward(loaded)
    inputs = loaded.inputs(pictures[:2])
    anatomy = dissect(loaded.model, inputs)
    assert anatomy.dtype is torch.bfloat16
    assert self_test(anatomy, inputs).unmeasured == {}
    with torch.autocast("cpu", torch.bfloat16):
        outer = probed_pass(dissect(tiny_llava.model, inputs), inputs)
    for row, other in zip(probed_pass(anatomy, inputs), outer, strict=True):
        assert np.array_equal(row.curves["inter"], other.curves["inter"], equal_nan=True)
