"""The self-test: four checks that a model is measured rightly, before anything is measured.

Each catches what the others miss: a probe that disturbs the model, a layer that was not seen, a
gate or norm between attention and output projection, a final norm applied twice or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.measure.positions import Positions
from phasebench.measure.probe import Probe
from phasebench.models.adapter import Anatomy

COMPLETENESS = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest accepted relative error of the summed contributions, by dtype."""
TIE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}
"""How far below the best a logit may be, relative to its row's largest size, and still count as best:
the lens multiplies other shapes than the model does."""


@dataclass
class SelfTest:
    """What the self-test saw; ``failures`` is empty for a model that can be measured."""

    bit_equal: bool
    attention_rows: int
    layers: int
    completeness: dict[int, float]
    lens_agreement: float
    failures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Plain data for the results."""
        return {
            "bit_equal": self.bit_equal,
            "attention_rows": self.attention_rows,
            "layers": self.layers,
            "completeness": max(self.completeness.values(), default=float("nan")),
            "lens_agreement": self.lens_agreement,
        }


class _CheckingProbe(Probe):
    """A probe that also compares the summed contributions with the attention's real output."""

    def __init__(self, anatomy: Anatomy, positions: Positions) -> None:
        super().__init__(anatomy, positions)
        self.errors: dict[int, float] = {}
        self._sums: dict[nn.Module, Tensor] = {}

    def added(self, module: nn.Module, added_BND: Tensor) -> None:
        self._sums[self.anatomy.outputs[module]] = added_BND.float().sum(1)

    def check(self, output: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        """Forward hook of an output projection: its real output at t, minus its bias."""
        if output not in self._sums or result.shape[1] != self.positions.visual_BN.shape[1]:
            return
        last_B = self.positions.last_B.to(result.device)
        real_BD = result[torch.arange(len(last_B)), last_B].float()
        bias = getattr(output, "bias", None)
        real_BD = (
            real_BD if bias is None else real_BD - output.forward(torch.zeros_like(args[0][:1, 0])).float()
        )
        error = (self._sums.pop(output) - real_BD).norm() / real_BD.norm().clamp_min(1e-20)
        self.errors[len(self.errors) + 1] = float(error)


def self_test(anatomy: Anatomy, inputs: Mapping[str, Tensor]) -> SelfTest:
    """Run the four checks on ``inputs``, which should be as long as the run's.

    Raises:
        InputError: the model would be measured wrongly; the message names the check and layers.
    """
    positions = Positions.of(inputs, anatomy.image_token)
    with torch.inference_mode():
        plain = anatomy.model(**inputs, use_cache=False).logits
    dtype = next(anatomy.model.parameters()).dtype
    probe = _CheckingProbe(anatomy, positions)
    handles = [output.register_forward_hook(probe.check) for output in anatomy.outputs.values()]
    try:
        with probe.watching():
            probed = anatomy.model(**inputs, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    outcome = SelfTest(
        bit_equal=torch.equal(plain, probed),
        attention_rows=len(probe.attention),
        layers=len(anatomy.layers),
        completeness=probe.errors,
        lens_agreement=_agreement(plain[positions.visual_BN.to(plain.device)], probe.tokens[-1], dtype),
    )
    _judge(outcome, dtype)
    if outcome.failures:
        name = getattr(anatomy.model.config, "model_type", type(anatomy.model).__name__)
        raise InputError(f"{name} cannot be measured: {'; '.join(outcome.failures)}")
    return outcome


def _agreement(logits_PV: Tensor, tokens_P: Tensor, dtype: torch.dtype) -> float:
    """Share of positions where the lens' token has the model's best logit, ties included."""
    chosen_P = logits_PV.gather(1, tokens_P.to(logits_PV.device)[:, None])[:, 0].float()
    best_P = logits_PV.amax(1).float()
    allowed_P = TIE[dtype] * logits_PV.abs().amax(1).float()
    return float((best_P - chosen_P <= allowed_P).float().mean())


def _judge(outcome: SelfTest, dtype: torch.dtype) -> None:
    failures = outcome.failures
    if not outcome.bit_equal:
        failures.append("the probe changes its logits")
    if outcome.attention_rows != outcome.layers:
        failures.append(f"{outcome.attention_rows} attention rows seen for {outcome.layers} layers")
    limit = COMPLETENESS[dtype]
    wrong = [layer for layer, error in outcome.completeness.items() if not error <= limit]
    if wrong or len(outcome.completeness) != outcome.attention_rows:
        failures.append(
            "something stands between attention and its output projection at "
            f"layers {', '.join(map(str, wrong)) or 'unseen'} (summed contributions are not its output)"
        )
    if outcome.lens_agreement < 1:
        failures.append(
            "the lens at the last layer gives the logits' token "
            f"at {outcome.lens_agreement:.1%} of positions only"
        )
