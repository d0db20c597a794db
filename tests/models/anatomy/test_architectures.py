"""Every image-text-to-text type of transformers: measured whole, in part, or refused by name.

One tiny model of each (``tests/support/zoo.py``) is compared with independent results: the states and
attention weights that transformers itself returns, and the model's own head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phasebench.errors import InputError
from phasebench.measurement import attention
from phasebench.measurement.passes import Row, probed_pass
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import Anatomy, dissect, forward
from phasebench.models.anatomy.attention_watch import eager_attention
from phasebench.models.anatomy.parts import is_encoder_decoder, sequence_model
from tests.support import zoo
from tests.support.architectures import PATH, Outcome, document, outcome

pytestmark = pytest.mark.slow
NAMES = [*zoo.types(), *zoo.variants()]
CLOSE = 1e-5
MIN_WHOLE, MIN_CAREFUL = 66, 14
CAREFUL = (
    "dots3_note", "gemma3n", "glm5_next", "inkling2", "kosmos-2", "lfm3_vl", "minicpm_ocr", "minicpmv4_6",
    "minicpmv4_7", "mistral_large4", "muse_glimmer", "muse_spark", "nemotron_h_omni", "qwen3_5",
    "qwen3_5_moe", "qwen4_exp", "step3p7",
)  # fmt: skip
"""Types with gates or norms before the output projection, layers without attention, or several streams."""


@dataclass
class Examination:
    """One type: its specimen, the outcome, and its anatomy unless it is refused."""

    outcome: Outcome
    specimen: zoo.Specimen | None = None
    anatomy: Anatomy | None = None


@pytest.fixture(scope="session", params=NAMES)
def examination(request: pytest.FixtureRequest) -> Examination:
    name: str = request.param
    try:
        specimen = zoo.specimen(name)
    except zoo.Unbuildable as reason:
        return Examination(Outcome(name, "not built", str(reason)))
    with zoo.quiet():
        try:
            anatomy = dissect(specimen.model, specimen.inputs)
            selftest = self_test(anatomy, specimen.inputs)
        except InputError as refusal:
            return Examination(outcome(name, refusal), specimen)
    return Examination(outcome(name, selftest), specimen, selftest.restrict(anatomy))


@pytest.fixture
def measurable(examination: Examination) -> tuple[zoo.Specimen, Anatomy]:
    """The specimen and anatomy of a type that is measured, at least in part."""
    if examination.specimen is None or examination.anatomy is None:
        pytest.skip(f"not measured, as documented: {examination.outcome.reason}")
    return examination.specimen, examination.anatomy


def test_the_outcome_is_the_documented_one(examination: Examination) -> None:
    """``python -m tests.support.architectures`` writes the document again."""
    assert examination.outcome.line() in PATH.read_text(encoding="utf-8").splitlines()


def test_the_visual_positions_are_those_of_the_image(measurable: tuple[zoo.Specimen, Anatomy]) -> None:
    specimen, anatomy = measurable
    positions = Positions.from_inputs(specimen.inputs, anatomy.image_token)
    visual = positions.visual_BN[0].nonzero()[:, 0].tolist()
    assert visual
    if not is_encoder_decoder(anatomy.model):  # the zoo gives the decoder's positions
        assert tuple(visual) == specimen.visual


class RecordingProbe(Probe):
    """A probe that records the states and the rows of attention weights."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.states: list[Tensor] = []
        self.rows: list[Tensor] = []

    def _see_states(self, hidden_BND: Tensor) -> None:
        self.states.append(hidden_BND.clone())
        super()._see_states(hidden_BND)

    def eager(self, module: torch.nn.Module) -> Any:
        native = eager_attention(module)

        def watched(*args: Any, **kwargs: Any) -> Any:
            output, weights = native(*args, **kwargs)
            self.rows.append(weights)
            return output, weights

        return watched


def recording_probe(specimen: zoo.Specimen, anatomy: Anatomy, patch: pytest.MonkeyPatch) -> RecordingProbe:
    probe = RecordingProbe(anatomy, Positions.from_inputs(specimen.inputs, anatomy.image_token))
    patch.setattr(attention, "eager_attention", probe.eager)
    with probe.watching():
        forward(anatomy.model, specimen.inputs)
    return probe


def decoder_output(specimen: zoo.Specimen, anatomy: Anatomy, *, eager: bool = False) -> Any:
    """The language model's output with its states and, with ``eager``, its attention weights."""
    decoder: Any = sequence_model(anatomy.model)
    requested = {"output_hidden_states": True, "output_attentions": eager}
    returned: list[Any] = []
    with ExitStack() as stack:
        request = decoder.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, **requested}), with_kwargs=True
        )
        record = decoder.register_forward_hook(lambda _, __, out: returned.append(out))
        for handle in (request, record):
            stack.callback(handle.remove)
        if eager:
            stack.callback(decoder.set_attn_implementation, decoder.config._attn_implementation)
            decoder.set_attn_implementation("eager")
        with zoo.quiet():
            forward(anatomy.model, specimen.inputs)
    return returned[0]


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_states_are_those_that_transformers_returns(
    measurable: tuple[zoo.Specimen, Anatomy], monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen, anatomy = measurable
    probe = recording_probe(specimen, anatomy, monkeypatch)
    states = decoder_output(specimen, anatomy).hidden_states
    assert len(probe.states) == len(anatomy.layers) + 1
    for ours, theirs in zip(probe.states[:-1], states[:-1], strict=True):
        assert relative_difference(ours.reshape(theirs.shape), theirs) < CLOSE
    if anatomy.final_norm is not None and (
        "lens" not in anatomy.unmeasured or is_encoder_decoder(anatomy.model)
    ):
        assert relative_difference(anatomy.final_norm(probe.states[-1]), states[-1]) < CLOSE


def test_rows_are_those_of_eager_attention(
    measurable: tuple[zoo.Specimen, Anatomy], monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen, anatomy = measurable
    if not anatomy.sites:
        pytest.skip("no attention is measured, as documented")
    probe = recording_probe(specimen, anatomy, monkeypatch)
    weights = [
        weight for weight in decoder_output(specimen, anatomy, eager=True).attentions if weight is not None
    ]
    last = int(probe.positions.last_B[0])
    assert len(probe.rows) == len(anatomy.sites) == len(weights)
    for ours, theirs in zip(probe.rows, weights, strict=True):
        assert relative_difference(ours[:, :, 0], theirs[:, :, last]) < CLOSE


def test_the_lens_is_the_models_own_readout(measurable: tuple[zoo.Specimen, Anatomy]) -> None:
    """At the last layer its logits; at the others its norm and head applied to the states that it returns."""
    specimen, anatomy = measurable
    if "lens" in anatomy.unmeasured:
        pytest.skip(f"no lens, as documented: {anatomy.unmeasured['lens']}")
    tokens = probed_pass(anatomy, specimen.inputs)[0].tokens
    states = decoder_output(specimen, anatomy).hidden_states
    visual = list(specimen.visual)
    assert anatomy.head is not None
    assert anatomy.final_norm is not None
    with torch.inference_mode():
        logits = [anatomy.head(anatomy.final_norm(state[0, visual])) for state in states[:-1]]
    logits.append(forward(anatomy.model, specimen.inputs)[0, visual])
    assert len(tokens) == len(logits) == len(anatomy.layers) + 1
    for ours, theirs in zip(tokens, logits, strict=True):
        allowed = theirs[:, : anatomy.vocabulary]
        if anatomy.masked_vocabulary is not None:
            allowed = allowed.masked_fill(anatomy.masked_vocabulary, -torch.inf)
        chosen = allowed.gather(1, torch.tensor(ours).long()[:, None])[:, 0]
        assert relative_difference(chosen, allowed.amax(1)) < CLOSE


@dataclass
class HookedInputs:
    """Values and gates of attention modules, recorded by hooks, for norm-based attention computed by hand."""

    values: dict[torch.nn.Module, Tensor]
    gates: dict[torch.nn.Module, Tensor]

    def norms(self, attention: Any, alpha_HN: Tensor, last: int) -> Tensor:
        """|| sum_h alpha_h v_h(j) W_O^h || of every position j, head by head, in float64 [N]."""
        output = getattr(attention, "o_proj", None) or attention.out_proj
        value_NE, weight = self.values[attention][0].double(), output.weight.double()
        width = weight.shape[1] // len(alpha_HN)
        groups = len(alpha_HN) // (value_NE.shape[1] // width)
        added = torch.zeros(len(value_NE), len(weight), dtype=torch.float64)
        for h in range(len(alpha_HN)):
            value = value_NE[:, (h // groups) * width : (h // groups + 1) * width]
            part = weight[:, h * width : (h + 1) * width]
            if attention in self.gates:
                part = part * self.gates[attention][0, last, h].double()
            added += alpha_HN[h].double()[:, None] * (value @ part.T)
        return added.norm(dim=1)


@pytest.mark.parametrize(
    "name", ["llava", "instructblip", "blip-2/opt", "qwen2_5_vl", "gemma3", "paligemma/gemma2", "qwen3_5"]
)
def test_norms_are_those_computed_by_hand(name: str) -> None:
    specimen = zoo.specimen(name)
    anatomy = dissect(specimen.model, specimen.inputs)
    assert any(site.gated for site in anatomy.sites.values()) == (name == "qwen3_5")
    hooked = HookedInputs({}, {})
    with ExitStack() as stack:
        for module in anatomy.sites:
            _listen(module, hooked, stack)
        weights = [
            weight
            for weight in decoder_output(specimen, anatomy, eager=True).attentions
            if weight is not None
        ]
    row = probed_pass(anatomy, specimen.inputs)[0]
    last = int(Positions.from_inputs(specimen.inputs, anatomy.image_token).last_B[0])
    for (module, site), alpha_BHNN in zip(anatomy.sites.items(), weights, strict=True):
        expected = hooked.norms(module, alpha_BHNN[0, :, last], last)
        assert torch.allclose(torch.from_numpy(row.norms[site.layer - 1]), expected, rtol=1e-4, atol=1e-6)


def _listen(module: Any, hooked: HookedInputs, stack: ExitStack) -> None:
    """Record the values of ``module`` and its gates: in Qwen 3.5 half of each head's query is its gate."""

    def value(_: torch.nn.Module, __: Any, out: Tensor) -> None:
        hooked.values[module] = out

    def query(_: torch.nn.Module, __: Any, out: Tensor) -> None:
        if out.shape[-1] == 2 * module.o_proj.in_features:
            heads = out.unflatten(-1, (-1, 2 * module.head_dim))
            hooked.gates[module] = heads[..., module.head_dim :].sigmoid()

    stack.callback(module.v_proj.register_forward_hook(value).remove)
    if hasattr(module, "o_proj"):
        stack.callback(module.q_proj.register_forward_hook(query).remove)


def largest_difference(a: Row, b: Row) -> float:
    """The largest difference of any curve, relative to the curve's largest value if that is above 1."""
    worst = 0.0
    for name, values in a.curves.items():
        assert (np.isnan(values) == np.isnan(b.curves[name])).all(), name
        if np.isfinite(values).any():
            scale = max(1.0, float(np.nanmax(np.abs(values))))
            worst = max(worst, float(np.nanmax(np.abs(values - b.curves[name]))) / scale)
    return worst


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(measurable: tuple[zoo.Specimen, Anatomy], side: Any) -> None:
    specimen, anatomy = measurable
    try:
        inputs = zoo.padded(specimen, side)
    except NotImplementedError as reason:
        pytest.skip(f"the model itself computes something else when padded: {reason}")
    alone, padded = probed_pass(anatomy, specimen.inputs)[0], probed_pass(anatomy, inputs)[0]
    assert (
        largest_difference(alone, padded) < 10 * CLOSE
        if specimen.type == "chameleon"
        else largest_difference(alone, padded) < 2 * CLOSE
    )
    assert alone.layout == padded.layout
    assert np.array_equal(alone.tokens, padded.tokens)


def test_a_batch_of_different_lengths_gives_each_row_its_own(
    measurable: tuple[zoo.Specimen, Anatomy],
) -> None:
    specimen, anatomy = measurable
    try:
        inputs = zoo.batched(specimen)
    except NotImplementedError as reason:
        pytest.skip(f"the model itself computes something else in a batch: {reason}")
    rows = probed_pass(anatomy, inputs)
    longer = zoo.longer(specimen)
    assert largest_difference(probed_pass(anatomy, specimen.inputs)[0], rows[0]) < 2 * CLOSE
    if specimen.type != "hunyuan_vl":  # its fourth rotary axis counts the images of a batch
        assert largest_difference(probed_pass(anatomy, longer)[0], rows[1]) < 2 * CLOSE


def documented_outcomes() -> Iterator[tuple[str, str]]:
    for line in PATH.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].strip("`") in zoo.types():
            yield cells[0].strip("`"), cells[1]


def test_most_types_are_measured_whole_and_every_type_is_documented() -> None:
    outcomes = dict(documented_outcomes())
    assert sorted(outcomes) == zoo.types()
    assert sum(outcome == "whole" for outcome in outcomes.values()) >= MIN_WHOLE
    careful = [outcomes[name] for name in CAREFUL if name in outcomes]
    assert sum(outcome in ("whole", "in part") for outcome in careful) >= MIN_CAREFUL


def test_the_document_is_written_from_outcomes() -> None:
    text = document(
        [Outcome("a", "whole", ""), Outcome("b/c", "in part", "no lens: so"), Outcome("d", "refused", "x")]
    )
    assert "| `b/c` | in part | no lens: so |" in text.splitlines()
    assert "1 measured whole, 0 in part, 1 refused" in text
