"""What the self-test lets through and what it refuses, by planting each fault that it is there for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.measure.positions import Positions
from phasebench.measure.selftest import self_test
from phasebench.models.adapter import dissect, find_layers, image_token_id, projector_of
from phasebench.models.loading import Loaded

if TYPE_CHECKING:
    from PIL import Image

Pictures = list["Image.Image"]


def _copied(loaded: Loaded) -> Loaded:
    return Loaded(
        loaded.name, copy.deepcopy(loaded.model), loaded.processor, loaded.prompt, loaded.checkpoint
    )


def test_the_tiny_models_pass(tiny: Loaded, pictures: Pictures) -> None:
    inputs = tiny.inputs(pictures[:2])
    outcome = self_test(dissect(tiny.model, inputs), inputs)
    assert outcome.bit_equal
    assert outcome.attention_rows == outcome.layers == 6
    assert max(outcome.completeness.values()) < 1e-5
    assert outcome.lens_agreement == 1
    assert not outcome.failures


class Gated(nn.Module):
    """A gate between attention and output projection, as in several new architectures."""

    def __init__(self, output: nn.Module) -> None:
        super().__init__()
        self.output = output

    def forward(self, states: Tensor) -> Tensor:
        gated: Tensor = self.output(states) * torch.sigmoid(states.mean(-1, keepdim=True))
        return gated


def test_a_gate_is_refused_by_layer(tiny_llava: Loaded, pictures: Pictures) -> None:
    loaded = _copied(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    attention = find_layers(loaded.model.get_decoder())[2].self_attn
    attention.o_proj = Gated(attention.o_proj)
    anatomy = dissect(loaded.model, inputs)
    with pytest.raises(InputError, match=r"between attention and its output projection at layers 3\b"):
        self_test(anatomy, inputs)


def test_a_layer_that_is_not_seen_is_refused(tiny_llava: Loaded, pictures: Pictures) -> None:
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(tiny_llava.model, inputs)
    anatomy.outputs.popitem()
    with pytest.raises(InputError, match="5 attention rows seen for 6 layers"):
        self_test(anatomy, inputs)


def test_a_wrong_final_norm_is_refused(tiny_llava: Loaded, pictures: Pictures) -> None:
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(tiny_llava.model, inputs)
    scale = torch.linspace(-3, 3, 64)

    class Wrong(nn.Module):
        def forward(self, states: Tensor) -> Tensor:
            return states * scale

    anatomy.final_norm = Wrong()
    with pytest.raises(InputError, match="the lens at the last layer gives the logits' token at"):
        self_test(anatomy, inputs)


def test_a_probe_that_disturbs_is_refused(tiny_llava: Loaded, pictures: Pictures) -> None:
    loaded = _copied(tiny_llava)
    inputs = loaded.inputs(pictures[:1])
    anatomy = dissect(loaded.model, inputs)
    calls: list[int] = []

    def drift(_: nn.Module, __: Any, out: Any) -> Any:
        calls.append(1)
        return out + 1e-3 * len(calls)

    loaded.model.get_decoder().norm.register_forward_hook(drift)
    with pytest.raises(InputError, match="the probe changes its logits"):
        self_test(anatomy, inputs)


def test_every_part_is_found(tiny: Loaded, pictures: Pictures) -> None:
    anatomy = dissect(tiny.model, tiny.inputs(pictures[:1]))
    assert [type(layer).__name__ for layer in anatomy.layers] == ["LlamaDecoderLayer"] * 6
    assert list(anatomy.outputs.values()) == [layer.self_attn.o_proj for layer in anatomy.layers]
    assert type(anatomy.final_norm).__name__ == "LlamaRMSNorm"
    assert anatomy.head is tiny.model.get_output_embeddings()
    assert anatomy.image_token == tiny.processor.tokenizer.convert_tokens_to_ids("<image>")
    assert projector_of(tiny.model) in set(tiny.model.modules())


def test_a_model_without_image_token_is_refused(tiny_llava: Loaded) -> None:
    with pytest.raises(InputError, match="names no image token"):
        image_token_id(type("M", (), {"config": type("C", (), {"model_type": "odd"})()})())


def test_a_decoder_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no decoder layers found"):
        find_layers(nn.Linear(2, 2))


def test_layers_are_found_where_nothing_is_declared() -> None:
    stack = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert find_layers(nn.Sequential(nn.ModuleList([nn.Linear(1, 1)]), nn.Sequential(stack))) == list(stack)


def test_positions_and_layout() -> None:
    ids = torch.tensor([[0, 0, 1, 9, 9, 4, 5], [1, 9, 9, 4, 5, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    positions = Positions.of({"input_ids": ids, "attention_mask": mask}, 9)
    assert positions.last_B.tolist() == [6, 4]
    assert positions.layout(0) == positions.layout(1) == {"length": 5, "visual": [[1, 3]], "text": 3}


def test_the_last_text_token_is_before_an_image_at_the_end() -> None:
    positions = Positions.of({"input_ids": torch.tensor([[1, 4, 9, 9]])}, 9)
    assert positions.last_B.tolist() == [1]
    assert positions.layout(0)["visual"] == [[2, 4]]


@pytest.mark.parametrize(("ids", "what"), [([[1, 2, 3]], "image tokens"), ([[9, 9]], "text tokens")])
def test_a_prompt_without_either_is_refused(ids: list[list[int]], what: str) -> None:
    with pytest.raises(InputError, match=f"no {what}.*--prompt"):
        Positions.of({"input_ids": torch.tensor(ids)}, 9)
