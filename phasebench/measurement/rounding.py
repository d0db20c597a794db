"""The error that summed contributions may have: by the dtype that a block computes in, or as measured.

Projections that quantize their input (W8A8, LLM.int8, fp8) are not linear to the precision of their dtype,
and nothing about them says how far off they are. So their rounding is measured: a linear map of two parts of
a state adds up to its map of the whole.

Shapes: B batch, D width of a projection's input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from phasebench.models.anatomy.parts import has_compute_dtype

COMPLETENESS = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest accepted relative error of the summed contributions, by dtype."""
FACTOR = 5.0
"""Multiple of the measured rounding that is accepted: there are more contributions than two parts."""
LARGEST = 0.1
"""What is accepted at most: a larger error is no rounding."""


def accepted_error(projection: nn.Module, states_BD: Tensor, dtype: torch.dtype) -> float:
    """The largest accepted relative error of contributions that ``projection`` maps.

    Args:
        projection: the output projection.
        states_BD: its input at some positions.
        dtype: the coarsest dtype that the model's blocks compute in.
    """
    if _is_plain(projection):
        return COMPLETENESS[dtype]
    return max(COMPLETENESS[dtype], min(LARGEST, FACTOR * rounding(projection, states_BD)))


def _is_plain(projection: nn.Module) -> bool:
    """Whether a projection is a matrix product in its dtype and nothing more."""
    if type(projection) not in (nn.Linear, Conv1D) or "forward" in vars(projection):
        return False
    weight = projection.weight
    return type(weight) is nn.Parameter and has_compute_dtype(weight)


def rounding(projection: nn.Module, states_BD: Tensor) -> float:
    """The relative error by which the maps of two random parts of each state miss the map of the whole."""
    draw = torch.Generator().manual_seed(0)
    share_BD = torch.rand(states_BD.shape, generator=draw).to(states_BD)
    parts = (share_BD * states_BD, states_BD - share_BD * states_BD, states_BD, torch.zeros_like(states_BD))
    first_BD, second_BD, whole_BD, bias_BD = (projection(part_BD[:, None])[:, 0].float() for part_BD in parts)
    # Each of the three maps has the bias, which is the map of zeros.
    missed_BD = first_BD + second_BD - whole_BD - bias_BD
    return float(missed_BD.norm() / (whole_BD - bias_BD).norm().clamp_min(1e-20))
