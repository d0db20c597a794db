"""The instrumented pass against independent routes through the same models."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phasebench.catalog import ATTENTION, CATALOG, SIMILARITY, Captions
from phasebench.datasets.sample import Sample
from phasebench.measurement.accumulate import RowAccumulator
from phasebench.measurement.passes import Row, plain_pass, probed_pass
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
from phasebench.measurement.recall import RecallScorer
from phasebench.measurement.selftest import self_test
from phasebench.measurement.similarity import similarity
from phasebench.models.anatomy.adapter import Anatomy, dissect, forward_options
from phasebench.models.bundled.tiny import word_tokenizer
from phasebench.models.loading import LoadedModel
from tests.support import zoo

if TYPE_CHECKING:
    from PIL import Image

Pictures = list["Image.Image"]
MASKED = ("input_ids", "attention_mask")


def anatomy_and_inputs(loaded: LoadedModel, pictures: Pictures) -> tuple[Anatomy, dict[str, Tensor]]:
    inputs = loaded.inputs(pictures)
    return dissect(loaded.model, inputs), inputs


class RecordingProbe(Probe):
    """A probe that also records the states and contributions that it reduces."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.states: list[Tensor] = []
        self.contributions: list[Tensor] = []

    def _see_states(self, hidden_BND: Tensor) -> None:
        self.states.append(hidden_BND.clone())
        super()._see_states(hidden_BND)

    def see_contributions(self, module: torch.nn.Module, contribution_BND: Tensor) -> None:
        self.contributions.append(contribution_BND.clone())


def recorded(loaded: LoadedModel, anatomy: Anatomy, inputs: dict[str, Tensor]) -> RecordingProbe:
    probe = RecordingProbe(anatomy, Positions.from_inputs(inputs, anatomy.image_token))
    with probe.watching():
        loaded.model(**inputs, use_cache=False)
    return probe


def test_states_are_the_blocks_outputs_before_the_final_norm(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:2])
    probe = recorded(tiny, anatomy, inputs)
    with torch.inference_mode():
        out = tiny.model(**inputs, output_hidden_states=True)
    hidden = (
        out.hidden_states
        if out.get("hidden_states") is not None
        else out.language_model_outputs.hidden_states
    )
    assert len(probe.states) == len(hidden) == len(anatomy.layers) + 1
    for ours, theirs in zip(probe.states[:-1], hidden[:-1], strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.allclose(probe.states[-1], hidden[-1], atol=1e-3)
    assert anatomy.final_norm is not None
    assert torch.equal(anatomy.final_norm(probe.states[-1]), hidden[-1])


def test_the_lens_at_the_last_layer_is_the_models_output(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:2])
    probe = recorded(tiny, anatomy, inputs)
    with torch.inference_mode():
        logits = tiny.model(**inputs, use_cache=False).logits
    assert probe.tokens is not None
    assert torch.equal(probe.tokens[-1], logits[probe.positions.visual_BN].argmax(-1))


def test_attention_rows_are_those_of_eager_output_attentions(tiny: LoadedModel, pictures: Pictures) -> None:
    """The norms of the contributions, from the weights that transformers itself returns."""
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:1])
    probe = recorded(tiny, anatomy, inputs)
    values: list[Tensor] = []
    handles = [
        attention.v_proj.register_forward_hook(lambda _, __, out: values.append(out))  # type: ignore[union-attr]
        for attention in anatomy.sites
    ]
    decoder = tiny.model.get_decoder()
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            out = tiny.model(**inputs, output_attentions=True)
    finally:
        decoder.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
    weights = out.attentions if out.get("attentions") is not None else out.language_model_outputs.attentions
    for layer, (attention, site) in enumerate(anatomy.sites.items()):
        expected = brute_force(weights[layer][0, :, -1], values[layer][0], site.output.weight)  # type: ignore[arg-type]
        assert torch.allclose(probe.contributions[layer][0].double(), expected, atol=1e-5), layer
        assert attention.num_key_value_groups == 2


def brute_force(alpha_HN: Tensor, value_ND: Tensor, weight: Tensor) -> Tensor:
    """sum_h alpha_h(t, j) v_h(j) W_O^h, head by head and position by position, in float64."""
    heads, n = alpha_HN.shape
    width = weight.shape[1] // heads
    groups = heads // (value_ND.shape[1] // width)
    added = torch.zeros(n, weight.shape[0], dtype=torch.float64)
    for h in range(heads):
        kv = h // groups
        for j in range(n):
            head_value = value_ND[j, kv * width : (kv + 1) * width].double()
            added[j] += alpha_HN[h, j].double() * (
                weight[:, h * width : (h + 1) * width].double() @ head_value
            )
    return added


def test_similarity_agrees_with_pairwise_cosines_in_float64(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:1])
    probe = recorded(tiny, anatomy, inputs)
    row = probed_pass(anatomy, inputs)[0]
    visual, text = probe.positions.visual_BN[0], probe.positions.text_BN[0]
    for layer, state in enumerate(probe.states):
        unit = torch.nn.functional.normalize(state[0].double(), dim=-1)
        cosines = unit @ unit.T
        assert row.curves["inter"][layer] == pytest.approx(float(cosines[visual][:, text].mean()), abs=1e-6)
        for name, members in (("intra_visual", visual), ("intra_text", text)):
            block = cosines[members][:, members]
            off = block[~torch.eye(len(block), dtype=torch.bool)].mean()
            assert row.curves[name][layer] == pytest.approx(float(off), abs=1e-6)


def test_curves_have_a_value_per_layer_and_attention_none_at_layer_0(
    tiny: LoadedModel, pictures: Pictures
) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:2])
    for row in probed_pass(anatomy, inputs):
        assert list(row.curves) == [curve.name for curve in CATALOG if curve.captions is Captions.NONE]
        assert all(len(values) == len(anatomy.layers) + 1 for values in row.curves.values())
        assert all(
            np.isnan(row.curves[name][0]) and np.isfinite(row.curves[name][1:]).all() for name in ATTENTION
        )
        assert row.norms.shape == (len(anatomy.layers), row.layout["length"])


def largest_difference(a: Row, b: Row) -> float:
    return max(
        float(np.nanmax(np.abs(a.curves[name] - b.curves[name]))) for name in a.curves if name != "total"
    )


def test_a_batch_gives_what_single_images_give(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:3])
    for picture, row in zip(pictures, probed_pass(anatomy, inputs), strict=False):
        alone = probed_pass(anatomy, tiny.inputs([picture]))[0]
        assert largest_difference(row, alone) < 1e-5
        assert np.array_equal(row.tokens, alone.tokens)
        assert row.layout == alone.layout


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(tiny: LoadedModel, pictures: Pictures, side: str) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:2])
    pad = tiny.processor.tokenizer.pad_token_id
    extra = {
        "input_ids": torch.full((2, 3), pad),
        "attention_mask": torch.zeros(2, 3, dtype=torch.long),
    }
    padded = dict(inputs)
    for key, fill in extra.items():
        order = [fill, inputs[key]] if side == "left" else [inputs[key], fill]
        padded[key] = torch.cat(order, dim=1)
    for a, b in zip(probed_pass(anatomy, inputs), probed_pass(anatomy, padded), strict=True):
        assert largest_difference(a, b) < 2e-5
        assert a.layout == b.layout
        assert np.array_equal(a.tokens, b.tokens)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_implementation_does_not_matter(
    tiny: LoadedModel, pictures: Pictures, implementation: str
) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:1])
    expected = probed_pass(anatomy, inputs)[0]
    decoder = tiny.model.get_decoder()
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation(implementation)
    try:
        assert largest_difference(probed_pass(anatomy, inputs)[0], expected) < 1e-5
    finally:
        decoder.set_attn_implementation(before)


def test_visual_states_do_not_depend_on_what_follows_the_image(
    tiny_llava: LoadedModel, pictures: Pictures
) -> None:
    """A causal model: LLaVA's image stands before the instruction."""
    anatomy, inputs = anatomy_and_inputs(tiny_llava, pictures[:1])
    changed = dict(inputs)
    changed["input_ids"] = inputs["input_ids"].clone()
    changed["input_ids"][0, -3:] = 30
    a, b = (probed_pass(anatomy, variant)[0] for variant in (inputs, changed))
    assert np.array_equal(a.tokens, b.tokens)
    assert np.allclose(a.curves["intra_visual"], b.curves["intra_visual"], atol=1e-6)
    assert not np.allclose(a.curves["inter"], b.curves["inter"], atol=1e-4)


def test_without_the_norm_the_lens_ignores_the_norms_weight(
    tiny_llava: LoadedModel, pictures: Pictures
) -> None:
    model = copy.deepcopy(tiny_llava.model)
    inputs = tiny_llava.inputs(pictures[:1])
    anatomy = dissect(model, inputs)
    before = {norm: probed_pass(anatomy, inputs, lens_norm=norm)[0].tokens for norm in (True, False)}
    with torch.no_grad():
        anatomy.final_norm.weight.copy_(torch.linspace(-3, 3, 64))  # type: ignore[operator, union-attr]
    after = {norm: probed_pass(anatomy, inputs, lens_norm=norm)[0].tokens for norm in (True, False)}
    assert np.array_equal(before[False], after[False])
    assert not np.array_equal(before[True], after[True])


def test_no_hook_and_no_attention_wrapper_stays(tiny: LoadedModel, pictures: Pictures) -> None:
    from transformers import AttentionInterface

    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:1])
    before = dict(AttentionInterface._global_mapping)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny.model.modules()]
    probed_pass(anatomy, inputs)
    with (
        pytest.raises(RuntimeError),
        Probe(anatomy, Positions.from_inputs(inputs, anatomy.image_token)).watching(),
    ):
        raise RuntimeError
    assert AttentionInterface._global_mapping == before
    after = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny.model.modules()]
    assert after == hooks


def test_an_eager_attention_of_the_callers_own_is_called_and_stays(
    tiny_llava: LoadedModel, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AttentionInterface
    from transformers.models.llama.modeling_llama import eager_attention_forward

    calls: list[Any] = []

    def callers_eager(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls.append(module)
        return eager_attention_forward(module, *args, **kwargs)

    monkeypatch.setitem(AttentionInterface._global_mapping, "eager", callers_eager)
    model = copy.deepcopy(tiny_llava.model)
    model.get_decoder().set_attn_implementation("eager")
    anatomy = dissect(model, tiny_llava.inputs(pictures[:1]))
    calls.clear()
    (row,) = probed_pass(anatomy, tiny_llava.inputs(pictures[:1]))
    assert len(calls) == len(anatomy.layers)
    assert np.isfinite(row.norms).all()
    assert AttentionInterface._global_mapping["eager"] is callers_eager


def test_the_plain_pass_is_timed_without_the_probe(tiny: LoadedModel, pictures: Pictures) -> None:
    anatomy, inputs = anatomy_and_inputs(tiny, pictures[:1])
    hook_counts: list[int] = []

    def count(layer: torch.nn.Module, *_: Any) -> None:
        hook_counts.append(len(layer._forward_hooks) + len(layer._forward_pre_hooks))

    spy = anatomy.layers[0].register_forward_hook(count)
    count(anatomy.layers[0])
    assert plain_pass(anatomy, inputs) > 0
    probed_pass(anatomy, inputs)
    spy.remove()
    assert hook_counts == [hook_counts[0], hook_counts[0], hook_counts[0] + 2]  # input and output states
    assert forward_options(tiny.model, inputs)["use_cache"] is False


def test_padding_may_be_nan(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    """Padding may overflow, or its row of the mask may let nothing through; it belongs to no state."""
    anatomy, inputs = anatomy_and_inputs(tiny_llava, pictures[:1])
    expected = probed_pass(anatomy, inputs)[0].curves
    padded = {**inputs, **{name: torch.nn.functional.pad(inputs[name], (0, 2)) for name in MASKED}}

    def with_nan(_: Any, __: Any, result: Any) -> Any:
        states = (result[0] if isinstance(result, tuple) else result).clone()
        states[:, -2:] = torch.nan
        return (states, *result[1:]) if isinstance(result, tuple) else states

    hook = anatomy.layers[-1].register_forward_hook(with_nan)
    try:
        curves = probed_pass(anatomy, padded)[0].curves
        assert self_test(dissect(tiny_llava.model, padded), padded).unmeasured == {}
    finally:
        hook.remove()
    for name in (*SIMILARITY, *ATTENTION):
        assert curves[name] == pytest.approx(expected[name], abs=1e-5, nan_ok=True), name


def test_states_that_are_nan_are_noticed_without_similarity() -> None:
    """Gemma 3n passes on several streams of states: here the sums of attention are NaN."""
    with zoo.quiet():
        specimen = zoo.specimen("gemma3n")
        anatomy = dissect(specimen.model, specimen.inputs)
        assert "similarity" in self_test(anatomy, specimen.inputs).unmeasured
        samples = [Sample(name, Path(), ("a dog",), name) for name in "ab"]
        accumulator = RowAccumulator(anatomy, samples, RecallScorer(word_tokenizer(), samples))
        accumulator.add(probed_pass(anatomy, specimen.inputs)[0])
        with torch.no_grad():
            for weight in anatomy.layers[1].parameters():
                weight.fill_(torch.nan)
        accumulator.add(probed_pass(anatomy, specimen.inputs)[0])
    assert list(accumulator.broken) == ["b"]
    assert "not finite from layer" in accumulator.broken["b"]
    heatmap = accumulator.heatmap()
    assert heatmap is not None
    assert np.isfinite(heatmap).all()


def test_the_last_layer_may_be_compared_after_the_final_norm(tiny: LoadedModel, pictures: Pictures) -> None:
    """transformers' own ``hidden_states[-1]`` is after the norm."""
    inputs = tiny.inputs(pictures[:2])
    anatomy = dissect(copy.deepcopy(tiny.model), inputs)
    states: list[torch.Tensor] = []
    assert anatomy.final_norm is not None
    with torch.no_grad():  # with equal weights a norm changes no cosine
        anatomy.final_norm.weight.copy_(torch.linspace(-3, 3, 64))  # type: ignore[operator]
    hook = anatomy.final_norm.register_forward_hook(lambda *args: states.append(args[2]))
    with torch.no_grad():
        anatomy.model(**inputs)
    hook.remove()
    positions = Positions.from_inputs(inputs, anatomy.image_token)
    expected = similarity(states[0], positions.visual_BN, positions.text_BN)["inter"]
    raw, normed = (probed_pass(anatomy, inputs, normed_last_layer=choice) for choice in (False, True))
    assert [row.curves["inter"][-1] for row in normed] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [row.curves["inter"][-1] for row in raw] != pytest.approx(expected.tolist(), abs=1e-4)
    assert np.array_equal(raw[0].curves["inter"][:-1], normed[0].curves["inter"][:-1])
    assert np.array_equal(raw[0].tokens, normed[0].tokens)


def test_a_final_norm_may_change_the_width(tiny_llava: LoadedModel, pictures: Pictures) -> None:
    """As OPT-350m's, which is a projection."""
    anatomy, inputs = anatomy_and_inputs(tiny_llava, pictures[:1])
    narrowing = replace(anatomy, final_norm=nn.Linear(64, 8, bias=False), unmeasured={"lens": "no"})
    (row,) = probed_pass(narrowing, inputs, normed_last_layer=True)
    assert np.isfinite(row.curves["inter"]).all()
