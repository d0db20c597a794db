"""The instrumented pass against a brute-force reference in float64, on models of random weights.

Both read the same float64 weights and the same states that enter the first block. The pass itself runs as it
is: it takes the softmax as the model's eager function does and reduces states in float32, which is what is
left between the two.
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

from phasebench.catalog import ATTENTION, MAX_LOGIT, SIMILARITY
from phasebench.curves import Array
from phasebench.measurement import attention as measured_attention
from phasebench.measurement import similarity as measured_similarity
from phasebench.measurement.passes import Row, probed_pass
from phasebench.measurement.positions import Positions
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import output_head, sequence_model
from phasebench.models.anatomy.trace import entering
from phasebench.models.loading import Loaded
from tests.conftest import load_tiny
from tests.oracles.reference import Reference, Seen, attention, similarity

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

Plant = Callable[[pytest.MonkeyPatch], None]
EXACT = 1e-6
DROPPED = 2
"""Words that the second prompt of an uneven batch lacks."""
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
def model(request: pytest.FixtureRequest, cache: Path) -> Loaded:
    name, changes = MODELS[request.param]
    return random_model(load_tiny(name, cache), changes, seed=list(MODELS).index(request.param))


def random_model(loaded: Loaded, changes: Mapping[str, Any], seed: int) -> Loaded:
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
    found: Tensor = norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, True) + norm.variance_epsilon)
    return found


def rotary(embedding: Any, states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """LlamaRotaryEmbedding without its casts; its own paces are float32 numbers already."""
    base = embedding.config.rope_parameters["rope_theta"]
    width = 2 * len(embedding.inv_freq)
    paces = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = (position_ids[..., None].double() * paces).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


def batches(loaded: Loaded, pictures: list[Image.Image], kind: str) -> dict[str, Tensor]:
    """One image, or two of which the second's prompt is shorter and padded on a side."""
    inputs = loaded.inputs(pictures[: 1 if kind == "one" else 2])
    return inputs if kind == "one" else uneven(loaded, inputs, kind)


def uneven(loaded: Loaded, inputs: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    """The batch with words before the last left out of the second prompt, which is padded instead."""
    changed = {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])}
    fills = {"input_ids": loaded.processor.tokenizer.pad_token_id, "attention_mask": 0}
    for key, fill in fills.items():
        first, second = changed[key]
        kept = torch.cat([second[: -DROPPED - 1], second[-1:]])
        padding = torch.full((DROPPED,), fill)
        changed[key] = torch.stack([first, torch.cat([padding, kept] if side == "left" else [kept, padding])])
    return changed


def slow(loaded: Loaded, inputs: dict[str, Tensor]) -> list[Seen]:
    """The reference's numbers of every image, alone and without padding."""
    decoder: Any = sequence_model(loaded.model)
    caught: list[Tensor] = []
    hook = decoder.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: caught.append(entering(args, kwargs)), with_kwargs=True
    )
    with hook, torch.inference_mode():
        loaded.model(**inputs, use_cache=False)
    reference = Reference(decoder, output_head(loaded.model))
    image_token = loaded.processor.tokenizer.convert_tokens_to_ids("<image>")
    real_BN = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    return [
        reference.run(states_ND[real_N].numpy(), (ids_N[real_N] == image_token).tolist())
        for ids_N, real_N, states_ND in zip(inputs["input_ids"], real_BN, caught[0], strict=True)
    ]


def curves(seen: Seen) -> dict[str, Array]:
    """The reference's curves [L + 1] under phasebench's names."""
    alike = [similarity(state, seen.visual, seen.text) for state in seen.states]
    nothing = dict.fromkeys(ATTENTION, np.nan)
    attended = [nothing, *(attention(norm, seen.visual, seen.text) for norm in seen.norms)]
    return {
        **{name: np.array([layer[name] for layer in alike]) for name in SIMILARITY},
        **{name: np.array([layer[name] for layer in attended]) for name in ATTENTION},
        MAX_LOGIT: np.array([np.mean(logits) for logits in seen.logits]),
    }


def worst(row: Row, wanted: Mapping[str, Array]) -> float:
    """The largest error of any curve, relative where numbers are above 1; NaN must be where it is wanted."""
    errors = []
    for name, values in wanted.items():
        got = row.curves[name]
        assert (np.isnan(got) == np.isnan(values)).all(), name
        errors.append(np.nanmax(np.abs(got - values) / np.maximum(1, np.abs(values))))
    return float(max(errors))


@pytest.mark.parametrize("batch", ["one", "left", "right"])
def test_the_pass_agrees_with_brute_force(model: Loaded, pictures: list[Image.Image], batch: str) -> None:
    inputs = batches(model, pictures, batch)
    rows = probed_pass(dissect(model.model, inputs), inputs)
    for row, seen in zip(rows, slow(model, inputs), strict=True):
        wanted = curves(seen)
        assert set(wanted) == set(row.curves)
        assert worst(row, wanted) < EXACT
        assert row.norms == pytest.approx(np.stack(seen.norms), rel=EXACT, abs=EXACT)
        assert np.array_equal(np.array(row.tokens), np.array(seen.tokens))
        assert max(seen.residue) < 1e-12
        assert wanted["sinks"].max() == 1


def with_self_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measured_similarity, "_within", lambda sums, counts, _: (sums / counts[..., None]).square().sum(-1)
    )


def heads_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over heads of the norms, in one coordinate, where the norm of their sum should be."""

    def project(output: nn.Linear, stacked_BND: Tensor) -> Tensor:
        heads = stacked_BND.unflatten(-1, (4, -1)).unbind(-2)
        weights = output.weight.unflatten(-1, (4, -1)).unbind(-2)
        parts = [head @ weight.T for head, weight in zip(heads, weights, strict=True)]
        return torch.stack([part.norm(dim=-1) for part in parts]).sum(0)[..., None]

    monkeypatch.setattr(measured_attention, "project", project)


def one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = Positions.of

    def early(inputs: Mapping[str, Tensor], image_token: int | None) -> Positions:
        positions = rightly(inputs, image_token)
        return replace(positions, last_B=positions.last_B - 1)

    monkeypatch.setattr(Positions, "of", early)


@pytest.mark.parametrize("plant", [with_self_pairs, heads_apart, one_too_early])
def test_a_wrong_pass_does_not_agree(
    tiny_llava: Loaded, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    model = random_model(tiny_llava, {}, seed=0)
    inputs = batches(model, pictures, "one")
    anatomy, (seen,) = dissect(model.model, inputs), slow(model, inputs)
    plant(monkeypatch)
    (row,) = probed_pass(anatomy, inputs)
    assert worst(row, curves(seen)) > 100 * EXACT


def test_the_reference_is_the_model(model: Loaded, pictures: list[Image.Image]) -> None:
    """Its last states give the model's own logits: what it is compared by is the model, and float64."""
    inputs = batches(model, pictures, "left")
    with torch.inference_mode():
        logits_BNV = model.model(**inputs, use_cache=False).logits.numpy()
    reference = Reference(sequence_model(model.model), output_head(model.model))
    real_BN = inputs["attention_mask"].bool().numpy()
    for logits_NV, real_N, seen in zip(logits_BNV, real_BN, slow(model, inputs), strict=True):
        assert reference.logits(seen.states[-1]) == pytest.approx(logits_NV[real_N], abs=1e-10)
