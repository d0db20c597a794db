"""The self-test: checks that a model is measured rightly, before anything is measured.

Each catches what the others miss: a probe that disturbs the model; a layer whose attention was not
seen; something between attention and output projection; a final norm applied twice or not at all.
What fails is not measured, and said; a probe that disturbs the model ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.measurement.gates import gate_errors
from phasebench.measurement.positions import Positions
from phasebench.measurement.probe import Probe
from phasebench.models.anatomy.adapter import Anatomy, forward
from phasebench.models.anatomy.parts import name_of, precision

COMPLETENESS = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest accepted relative error of the summed contributions, by dtype."""
CANCELLED = 0.1
"""Share of the contributions' summed norms below which their sum is mostly rounding: where they cancel, the
error is told relative to this."""
TIE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}
"""How far below the best a logit may be, relative to its row's largest size, and still count as best:
the lens multiplies other shapes than the model does."""


class NotFiniteError(InputError):
    """Logits are no numbers; of a batch it may be one image that overflows."""


@dataclass
class SelfTest:
    """What the self-test saw.

    Attributes:
        bit_equal: logits with the probe are those without, bit for bit.
        attention_rows: layers whose attention is read.
        layers: how many there are.
        completeness: layer -> relative error of the summed contributions.
        gates: layer -> how much a gate's factors change when only its attention's output does.
        lens_agreement: share of visual positions where the lens at the last layer gives the logits'
            best token; NaN where no lens is read.
        unmeasured: what is not measured, and why.
    """

    bit_equal: bool
    attention_rows: int
    layers: int
    completeness: dict[int, float]
    gates: dict[int, float]
    lens_agreement: float
    unmeasured: dict[str, str] = field(default_factory=dict)

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


class _CheckingProbe(Probe):
    """A probe that also compares the summed contributions with the attention's real output."""

    def __init__(self, anatomy: Anatomy, positions: Positions) -> None:
        super().__init__(anatomy, positions)
        self.errors: dict[int, float] = {}
        self._sums: dict[nn.Module, tuple[int, Tensor, float]] = {}

    def added(self, module: nn.Module, added_BND: Tensor) -> None:
        site, added_BND = self.anatomy.sites[module], added_BND.float()
        size = float(added_BND.norm(dim=-1).sum(1).norm())
        self._sums[site.output] = site.layer, added_BND.sum(1), CANCELLED * size

    def check(self, output: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        """Forward hook of an output projection: its real output at t, minus its bias."""
        batch, length = self.positions.visual_BN.shape
        if output not in self._sums or result.numel() != batch * length * result.shape[-1]:
            return
        layer, summed_BD, least = self._sums.pop(output)
        last_B = self.positions.last_B.to(result.device)
        real_BD = result.reshape(batch, length, -1)[torch.arange(batch), last_B].float()
        if getattr(output, "bias", None) is not None:
            no_states = torch.zeros_like(args[0].reshape(-1, args[0].shape[-1])[:1])
            real_BD = real_BD - output.forward(no_states).float()
        self.errors[layer] = float((summed_BD - real_BD).norm() / real_BD.norm().clamp_min(max(least, 1e-20)))


def self_test(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> SelfTest:
    """Run the checks on ``inputs``, which should be as long as the run's; take out what fails.

    Raises:
        NotFiniteError: a row has logits that are no numbers.
        InputError: the probe disturbs the model, or nothing of it can be measured rightly.
    """
    positions = Positions.of(inputs, anatomy.image_token)

    def logits() -> Tensor:
        return positions.cleared(forward(anatomy.model, inputs))

    plain = logits()
    if bool(plain.isnan().any()):
        told = "final states are finite, its logits are not; a corrupt weight of norm or output head?"
        raise NotFiniteError(f"{name_of(anatomy.model)} cannot be measured: {told}")
    dtype = precision(anatomy.model)
    probe = _CheckingProbe(anatomy, positions)
    hooks = [site.output.register_forward_hook(probe.check) for site in anatomy.sites.values()]
    try:
        with probe.watching():
            probed = logits()
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.equal(plain, probed) and not torch.equal(
        plain, positions.cleared(forward(anatomy.model, inputs))
    ):
        raise InputError(
            f"{name_of(anatomy.model)} cannot be measured: its own forward pass gives other logits each time"
        )
    agreement = float("nan")
    if probe.tokens:
        agreement = _agreement(plain[positions.visual_BN.to(plain.device)], probe.tokens[-1], dtype)
    outcome = SelfTest(
        bit_equal=torch.equal(plain, probed),
        attention_rows=len(probe.attention),
        layers=len(anatomy.layers),
        completeness=probe.errors,
        gates=gate_errors(anatomy, inputs, positions),
        lens_agreement=agreement,
    )
    _take_out(anatomy, outcome, COMPLETENESS[dtype])
    return outcome


def _agreement(logits_PV: Tensor, tokens_P: Tensor, dtype: torch.dtype) -> float:
    """Share of positions where the lens' token has the model's best logit, ties included."""
    chosen_P = logits_PV.gather(1, tokens_P.to(logits_PV.device)[:, None])[:, 0].float()
    best_P = logits_PV.amax(1).float()
    finite_PV = logits_PV.masked_fill(logits_PV <= torch.finfo(logits_PV.dtype).min / 2, 0)
    allowed_P = TIE[dtype] * finite_PV.abs().amax(1).float()
    return float((best_P - chosen_P <= allowed_P).float().mean())


def _take_out(anatomy: Anatomy, outcome: SelfTest, limit: float) -> None:
    """Note in ``anatomy`` and ``outcome`` what is not measured.

    Raises:
        InputError: the probe disturbs the model, or nothing is left.
    """
    name = name_of(anatomy.model)
    if not outcome.bit_equal:
        raise InputError(f"{name} cannot be measured: the probe changes its logits")
    if why := _attention_refused(anatomy, outcome, limit):
        anatomy.unmeasured["attention"] = why
    if outcome.lens_agreement < 1:
        anatomy.unmeasured["lens"] = (
            "the lens at the last layer gives the logits' token "
            f"at {outcome.lens_agreement:.1%} of positions only"
        )
    outcome.attention_rows = len(anatomy.sites)
    outcome.unmeasured = dict(anatomy.unmeasured)
    if {"similarity", "lens"} <= set(anatomy.unmeasured) and not anatomy.sites:
        reasons = "; ".join(f"{what}: {why}" for what, why in anatomy.unmeasured.items())
        raise InputError(f"{name} cannot be measured: {reasons}")


def _attention_refused(anatomy: Anatomy, outcome: SelfTest, limit: float) -> str:
    """Why the attention of some layers is not read; their sites are taken out."""
    gated = {layer for layer, error in outcome.gates.items() if not error <= limit}
    seen = outcome.completeness
    wrong = {layer for layer, error in seen.items() if not error <= limit and layer not in gated}
    sites = anatomy.sites
    wrong |= {site.layer for site in sites.values()} - set(seen) - gated
    anatomy.sites = {m: site for m, site in sites.items() if site.layer not in gated | wrong}
    unseen = set(range(1, outcome.layers + 1)) - {site.layer for site in sites.values()}
    reasons = {
        "no softmax attention is seen": unseen,
        "what lies between attention and output projection is not an elementwise gate": gated,
        "the summed contributions are not the attention's output": wrong,
    }
    return "; ".join(f"{why} at {_layers(where, outcome.layers)}" for why, where in reasons.items() if where)


def _layers(where: set[int], of: int) -> str:
    if len(where) == of:
        return "every layer"
    return f"layer{'s' if len(where) > 1 else ''} {', '.join(map(str, sorted(where)))}"
