"""The self-test: checks that a model can be measured correctly, before it is measured.

Each check catches faults that the others miss: a probe that disturbs the model; a layer whose attention was
not watched; an operation between attention and output projection; a final norm that is applied twice or not
at all. A part that fails is not measured, and the outcome has the reason. A model that the probe disturbs is
not measured at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.measurement.gates import gate_errors
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
from phasebench.measurement.rounding import COMPLETENESS, accepted_error
from phasebench.models.anatomy.adapter import Anatomy, forward
from phasebench.models.anatomy.parts import architecture_name

CANCELLED_SHARE = 0.1
"""Where contributions cancel, their sum is mostly rounding error: below this share of their summed norms, the
error is taken relative to this share instead of the sum."""
TIE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}
"""Difference from the best logit, relative to the row's largest absolute logit, up to which a logit counts as
best; by dtype. The lens multiplies other shapes than the model does, and so rounds differently."""


class NotFiniteError(InputError):
    """Logits are NaN; in a batch, a single image may have overflowed."""


@dataclass(frozen=True)
class SelfTest:
    """The outcome of the self-test.

    Attributes:
        bit_equal: whether the logits with the probe are those without it, bit for bit.
        attention_rows: the number of layers whose attention is measured.
        layers: the number of layers.
        completeness: layer -> relative error of the summed contributions.
        gates: layer -> largest change of a gate's factors when the attention's output is perturbed.
        lens_agreement: share of visual positions where the lens at the last layer gives the token with the
            largest logit; NaN if there is no lens.
        unmeasured: 'similarity', 'attention' or 'lens' -> why it is not measured, or at which layers.
        refused_layers: layers whose attention was watched but failed the test.
    """

    bit_equal: bool
    attention_rows: int
    layers: int
    completeness: dict[int, float]
    gates: dict[int, float]
    lens_agreement: float
    unmeasured: dict[str, str] = field(default_factory=dict)
    refused_layers: frozenset[int] = frozenset()

    def as_dict(self) -> dict[str, object]:
        """Plain data for the results."""
        agreement = self.lens_agreement
        return {
            "bit_equal": self.bit_equal,
            "attention_rows": self.attention_rows,
            "layers": self.layers,
            "completeness": max(self.completeness.values(), default=None),
            "gates": max(self.gates.values(), default=None),
            "lens_agreement": agreement if agreement == agreement else None,
            "unmeasured": dict(self.unmeasured),
        }

    def restrict(self, anatomy: Anatomy) -> Anatomy:
        """A copy of the tested anatomy without the parts and layers that failed."""
        sites = {m: site for m, site in anatomy.sites.items() if site.layer not in self.refused_layers}
        return replace(anatomy, sites=sites, unmeasured=dict(self.unmeasured))


class _CheckingProbe(Probe):
    """A probe that also compares the summed contributions with the attention's real output.

    Attributes:
        errors: layer -> relative error of the sum.
        limits: layer -> the largest error that is accepted.
    """

    def __init__(self, anatomy: Anatomy, positions: Positions) -> None:
        super().__init__(anatomy, positions)
        self.errors: dict[int, float] = {}
        self.limits: dict[int, float] = {}
        self._sums: dict[nn.Module, tuple[int, Tensor, float]] = {}

    def see_contributions(self, module: nn.Module, contribution_BND: Tensor) -> None:
        """Keep their sum until the output projection has run."""
        site, contribution_BND = self.anatomy.sites[module], contribution_BND.float()
        size = float(contribution_BND.norm(dim=-1).sum(1).norm())
        self._sums[site.output] = site.layer, contribution_BND.sum(1), CANCELLED_SHARE * size

    def check(self, output: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        """Forward hook of an output projection: compare the sum with its real output at t, minus its bias."""
        batch, length = self.positions.visual_BN.shape
        if output not in self._sums or result.numel() != batch * length * result.shape[-1]:
            return
        layer, summed_BD, least = self._sums.pop(output)
        last_B = self.positions.last_B.to(result.device)
        states_BD, real_BD = (
            states.reshape(batch, length, -1)[torch.arange(batch), last_B] for states in (args[0], result)
        )
        real_BD = real_BD.float()
        if getattr(output, "bias", None) is not None:
            real_BD = real_BD - output.forward(torch.zeros_like(states_BD[:1])).float()
        self.limits[layer] = accepted_error(output, states_BD, self.anatomy.dtype)
        self.errors[layer] = float((summed_BD - real_BD).norm() / real_BD.norm().clamp_min(max(least, 1e-20)))


def self_test(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> SelfTest:
    """Run the checks on one batch. Nothing in ``anatomy`` is changed.

    Args:
        anatomy: the model's parts.
        inputs: the batch's tensors, of the size that the run uses.

    Raises:
        NotFiniteError: logits are NaN.
        InputError: the probe disturbs the model, or no part of it can be measured correctly.
    """
    positions = Positions.from_inputs(inputs, anatomy.image_token)
    plain = _logits(anatomy, inputs, positions)
    if bool(plain.isnan().any()):
        raise NotFiniteError(
            f"{architecture_name(anatomy.model)} cannot be measured: final states are finite, its logits are "
            "not; a corrupt weight of norm or output head?"
        )
    probe = _CheckingProbe(anatomy, positions)
    bit_equal = _is_undisturbed(probe, inputs, plain)
    outcome = SelfTest(
        bit_equal=bit_equal,
        attention_rows=len(probe.norms_by_layer),
        layers=len(anatomy.layers),
        completeness=probe.errors,
        gates=gate_errors(anatomy, inputs, positions),
        lens_agreement=_lens_agreement(probe, plain, anatomy.dtype),
    )
    return _judge(anatomy, outcome, probe.limits)


def _logits(anatomy: Anatomy, inputs: Mapping[str, Tensor], positions: Positions) -> Tensor:
    """The logits of one forward pass [B, N, V], 0 at padding."""
    return positions.clear_padding(forward(anatomy.model, inputs))


def _is_undisturbed(probe: _CheckingProbe, inputs: Mapping[str, Tensor], plain: Tensor) -> bool:
    """Whether a pass with the probe gives the logits ``plain``, bit for bit.

    Raises:
        InputError: a second pass without the probe does not give them either.
    """
    anatomy, positions = probe.anatomy, probe.positions
    hooks = [site.output.register_forward_hook(probe.check) for site in anatomy.sites.values()]
    try:
        with probe.watching():
            probed = _logits(anatomy, inputs, positions)
    finally:
        for hook in hooks:
            hook.remove()
    bit_equal = torch.equal(plain, probed)
    if not bit_equal and not torch.equal(plain, _logits(anatomy, inputs, positions)):
        raise InputError(
            f"{architecture_name(anatomy.model)} cannot be measured: its own forward pass gives other logits "
            "each time"
        )
    return bit_equal


def _lens_agreement(probe: Probe, logits: Tensor, dtype: torch.dtype) -> float:
    """Share of visual positions where the lens' token has the best logit or a tie; NaN without a lens."""
    if probe.tokens is None:
        return float("nan")
    logits_PV = logits[probe.positions.visual_BN.to(logits.device)]
    chosen_P = logits_PV.gather(1, probe.tokens[-1].to(logits_PV.device)[:, None])[:, 0].float()
    best_P = logits_PV.amax(1).float()
    finite_PV = logits_PV.masked_fill(logits_PV <= torch.finfo(logits_PV.dtype).min / 2, 0)
    allowed_P = TIE[dtype] * finite_PV.abs().amax(1).float()
    return float((best_P - chosen_P <= allowed_P).float().mean())


def _judge(anatomy: Anatomy, outcome: SelfTest, limits: Mapping[int, float]) -> SelfTest:
    """The outcome, completed with the parts and layers that are not measured.

    Raises:
        InputError: the probe disturbs the model, or nothing is left.
    """
    name = architecture_name(anatomy.model)
    if not outcome.bit_equal:
        raise InputError(f"{name} cannot be measured: the probe changes its logits")
    refused, reason = _refused_attention(anatomy, outcome, limits)
    unmeasured = {**anatomy.unmeasured, **({"attention": reason} if reason else {})}
    if outcome.lens_agreement < 1:
        unmeasured["lens"] = (
            "the lens at the last layer gives the logits' token "
            f"at {outcome.lens_agreement:.1%} of positions only"
        )
    attention_rows = sum(site.layer not in refused for site in anatomy.sites.values())
    if {"similarity", "lens"} <= set(unmeasured) and not attention_rows:
        reasons = "; ".join(f"{part}: {why}" for part, why in unmeasured.items())
        raise InputError(f"{name} cannot be measured: {reasons}")
    return replace(outcome, attention_rows=attention_rows, unmeasured=unmeasured, refused_layers=refused)


def _refused_attention(
    anatomy: Anatomy, outcome: SelfTest, limits: Mapping[int, float]
) -> tuple[frozenset[int], str]:
    """The watched layers that failed, and the reasons for all layers whose attention is not measured."""
    watched = {site.layer for site in anatomy.sites.values()}
    of_gates = COMPLETENESS[anatomy.dtype]
    gated = {layer for layer, error in outcome.gates.items() if not error <= of_gates}
    wrong = {layer for layer, error in outcome.completeness.items() if not error <= limits[layer]} - gated
    wrong |= watched - set(outcome.completeness) - gated
    reasons = {
        "no softmax attention is seen": set(range(1, outcome.layers + 1)) - watched,
        "what lies between attention and output projection is not an elementwise gate": gated,
        "the summed contributions are not the attention's output": wrong,
    }
    parts = [f"{why} at {_layers(layers, outcome.layers)}" for why, layers in reasons.items() if layers]
    return frozenset(gated | wrong), "; ".join(parts)


def _layers(layers: set[int], count: int) -> str:
    """``layer 3``, ``layers 1, 2``, or ``every layer`` of ``count``."""
    if len(layers) == count:
        return "every layer"
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, sorted(layers)))}"
