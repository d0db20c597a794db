"""The instrumented pass against a brute-force reference in float64, on models of random weights.

Both read the same float64 weights and the same states that enter the first block. The pass takes the softmax
as the model's eager function does and reduces states in float32, so small differences remain.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phasebench.catalog import ATTENTION, SIMILARITY
from phasebench.curves import Array
from phasebench.measurement import attention as measured_attention
from phasebench.measurement import similarity as measured_similarity
from phasebench.measurement.passes import Row, probed_pass
from phasebench.measurement.positions import Positions
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import output_head, sequence_model
from phasebench.models.anatomy.trace import input_states
from phasebench.models.loading import LoadedModel
from tests.oracles.reference import Reference, ReferencePass, attention, similarity
from tests.support.checkpoints import load_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

Plant = Callable[[pytest.MonkeyPatch], None]
EXACT = 1e-6
MISSING_WORDS = 2
"""How many words shorter the second prompt of an uneven batch is."""
MODELS = {
    "llava, grouped": ("tiny-llava", {}),
    "llava, a value for each head": ("tiny-llava", {"num_key_value_heads": 4}),
    "llava, one value, biases": ("tiny-llava", {"num_key_value_heads": 1, "attention_bias": True}),
    "instructblip, grouped": ("tiny-instructblip", {}),
    "instructblip, a value for each head, biases": (
        "tiny-instructblip",
        {"num_key_value_heads": 4, "attention_bias": True},
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, cache: Path) -> LoadedModel:
    name, changes = MODELS[request.param]
    return random_model(load_tiny(name, cache), changes, seed=list(MODELS).index(request.param))


def random_model(loaded: LoadedModel, changes: Mapping[str, Any], seed: int) -> LoadedModel:
    """The same architecture in float64 with other heads, and random everything: biases and norms too."""
    config = copy.deepcopy(loaded.model.config)
    for key, value in changes.items():
        setattr(config.text_config, key, value)
    torch.manual_seed(seed)
    model = type(loaded.model)(config).double().eval().requires_grad_(requires_grad=False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "query_tokens" in name:
            parameter.add_(0.3 * torch.randn(parameter.shape))
    bos = loaded.processor.tokenizer.bos_token_id
    model.get_input_embeddings().weight[bos].mul_(60)  # a sink
    in_float64(sequence_model(model))
    return replace(loaded, model=model)


def in_float64(decoder: Any) -> None:
    """Norms and rotary angles too: transformers takes them in float32 whatever a model's precision is."""
    for module in decoder.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = partial(rms_norm, module)
    decoder.rotary_emb.forward = partial(rotary, decoder.rotary_emb)


def rms_norm(norm: Any, hidden: Tensor) -> Tensor:
    """LlamaRMSNorm without its casts."""
    scaled: Tensor = norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, True) + norm.variance_epsilon)
    return scaled


def rotary(embedding: Any, states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """LlamaRotaryEmbedding without its casts; its own frequencies are rounded to float32."""
    base = embedding.config.rope_parameters["rope_theta"]
    width = 2 * len(embedding.inv_freq)
    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = (position_ids[..., None].double() * frequencies).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


def batches(loaded: LoadedModel, pictures: list[Image.Image], kind: str) -> dict[str, Tensor]:
    """One image, or two of which the second's prompt is shorter and padded on a side."""
    inputs = loaded.inputs(pictures[: 1 if kind == "one" else 2])
    return inputs if kind == "one" else uneven(loaded, inputs, kind)


def uneven(loaded: LoadedModel, inputs: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    """The batch with words before the last left out of the second prompt, which is padded instead."""
    changed = {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])}
    fills = {"input_ids": loaded.processor.tokenizer.pad_token_id, "attention_mask": 0}
    for key, fill in fills.items():
        first, second = changed[key]
        short = torch.cat([second[: -MISSING_WORDS - 1], second[-1:]])
        padding = torch.full((MISSING_WORDS,), fill)
        changed[key] = torch.stack(
            [first, torch.cat([padding, short] if side == "left" else [short, padding])]
        )
    return changed


def reference_passes(loaded: LoadedModel, inputs: dict[str, Tensor]) -> list[ReferencePass]:
    """The reference's numbers of every image, alone and without padding."""
    decoder: Any = sequence_model(loaded.model)
    entering: list[Tensor] = []
    hook = decoder.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: entering.append(input_states(args, kwargs)), with_kwargs=True
    )
    with hook, torch.inference_mode():
        loaded.model(**inputs, use_cache=False)
    reference = Reference(decoder, output_head(loaded.model))
    image_token = loaded.processor.tokenizer.convert_tokens_to_ids("<image>")
    real_BN = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    return [
        reference.run(states_ND[real_N].numpy(), (ids_N[real_N] == image_token).tolist())
        for ids_N, real_N, states_ND in zip(inputs["input_ids"], real_BN, entering[0], strict=True)
    ]


def curves(numbers: ReferencePass) -> dict[str, Array]:
    """The reference's curves [L + 1] under phasebench's names."""
    similarities = [similarity(state, numbers.visual, numbers.text) for state in numbers.states]
    layer_0 = dict.fromkeys(ATTENTION, np.nan)
    attentions = [layer_0, *(attention(norm, numbers.visual, numbers.text) for norm in numbers.norms)]
    return {
        **{name: np.array([layer[name] for layer in similarities]) for name in SIMILARITY},
        **{name: np.array([layer[name] for layer in attentions]) for name in ATTENTION},
        "max_logit": np.array([np.mean(logits) for logits in numbers.logits]),
    }


def largest_error(row: Row, expected: Mapping[str, Array]) -> float:
    """The largest error of any curve, relative where numbers are above 1; NaN has to be where expected."""
    errors = []
    for name, values in expected.items():
        measured = row.curves[name]
        assert (np.isnan(measured) == np.isnan(values)).all(), name
        errors.append(np.nanmax(np.abs(measured - values) / np.maximum(1, np.abs(values))))
    return float(max(errors))


@pytest.mark.parametrize("batch", ["one", "left", "right"])
def test_the_pass_agrees_with_brute_force(
    model: LoadedModel, pictures: list[Image.Image], batch: str
) -> None:
    inputs = batches(model, pictures, batch)
    rows = probed_pass(dissect(model.model, inputs), inputs)
    for row, numbers in zip(rows, reference_passes(model, inputs), strict=True):
        expected = curves(numbers)
        assert set(expected) == set(row.curves)
        assert largest_error(row, expected) < EXACT
        assert row.norms == pytest.approx(np.stack(numbers.norms), rel=EXACT, abs=EXACT)
        assert np.array_equal(np.array(row.tokens), np.array(numbers.tokens))
        assert max(numbers.residue) < 1e-12
        assert expected["sinks"].max() == 1


def plant_self_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measured_similarity, "_within", lambda sums, counts, _: (sums / counts[..., None]).square().sum(-1)
    )


def plant_norms_per_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over heads of the norms, in one coordinate, where the norm of their sum should be."""

    def project(output: nn.Linear, stacked_BND: Tensor) -> Tensor:
        heads = stacked_BND.unflatten(-1, (4, -1)).unbind(-2)
        weights = output.weight.unflatten(-1, (4, -1)).unbind(-2)
        parts = [head @ weight.T for head, weight in zip(heads, weights, strict=True)]
        return torch.stack([part.norm(dim=-1) for part in parts]).sum(0)[..., None]

    monkeypatch.setattr(measured_attention, "project", project)


def plant_early_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Positions.from_inputs

    def early(inputs: Mapping[str, Tensor], image_token: int | None) -> Positions:
        positions = original(inputs, image_token)
        return replace(positions, last_B=positions.last_B - 1)

    monkeypatch.setattr(Positions, "from_inputs", early)


@pytest.mark.parametrize("plant", [plant_self_pairs, plant_norms_per_head, plant_early_last_token])
def test_a_wrong_pass_does_not_agree(
    tiny_llava: LoadedModel, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    model = random_model(tiny_llava, {}, seed=0)
    inputs = batches(model, pictures, "one")
    anatomy, (numbers,) = dissect(model.model, inputs), reference_passes(model, inputs)
    plant(monkeypatch)
    (row,) = probed_pass(anatomy, inputs)
    assert largest_error(row, curves(numbers)) > 100 * EXACT


def test_the_reference_is_the_model(model: LoadedModel, pictures: list[Image.Image]) -> None:
    """Its last states give the model's own logits, in float64."""
    inputs = batches(model, pictures, "left")
    with torch.inference_mode():
        logits_BNV = model.model(**inputs, use_cache=False).logits.numpy()
    reference = Reference(sequence_model(model.model), output_head(model.model))
    real_BN = inputs["attention_mask"].bool().numpy()
    for logits_NV, real_N, numbers in zip(logits_BNV, real_BN, reference_passes(model, inputs), strict=True):
        assert reference.logits(numbers.states[-1]) == pytest.approx(logits_NV[real_N], abs=1e-10)
