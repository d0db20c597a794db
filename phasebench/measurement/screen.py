"""The lens' matrix product: the top-1 entries of an output head, in the cheapest way that the head allows.

A large float32 head on a CPU is screened in 8 bits (``eight_bits``). States that the screening leaves
unproven, and all states of any other plain head, are multiplied panel by panel. A head that is not just a
weight is called as a module.

In 16 bits logits are rounded so much that many are equal (on smol-llava in bfloat16 the largest at 3 % of
positions), so products of a plain head are in float32. Of equal logits the first entry is taken.

Shapes: P positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TypeGuard
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasebench.measurement.eight_bits import PANEL, SIDE, EightBitHead, is_exact, take_larger
from phasebench.models.anatomy.parts import has_compute_dtype

MIN_ELEMENTS = 1 << 22
"""Number of elements of a head below which the whole product costs no more than screening."""
CHUNK = 1024
"""Number of positions whose logits are in main memory at once if they are not computed panel by panel."""
ACCELERATOR_LOGITS = 1 << 26
"""Number of logits that are in an accelerator's memory at once."""
State = tuple[int, int, int | None]
"""A weight's address and version, and the vocabulary's size; a head in another state is rounded again."""

_SCREENS: WeakKeyDictionary[nn.Module, tuple[State, EightBitHead]] = WeakKeyDictionary()


def top1(
    head: nn.Module, rows_PD: Tensor, vocabulary: int | None = None, masked_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The entry with the largest logit for each row, and its logit, [P] each.

    Args:
        head: the output head.
        rows_PD: states as they enter the head.
        vocabulary: the number of entries that count; the rest is padding. None for all.
        masked_V: True for entries that are never chosen.
    """
    can_screen = rows_PD.dtype == torch.float32 and masked_V is None
    screen = screen_of_head(head, vocabulary) if can_screen else None
    if screen is None:
        return _multiply(head, rows_PD, vocabulary, masked_V)
    token_P, logit_P, proven_P = screen.top1(rows_PD)
    if not bool(proven_P.all()):
        token_P[~proven_P], logit_P[~proven_P] = _multiply(head, rows_PD[~proven_P], vocabulary, masked_V)
    return token_P, logit_P


def forget(head: nn.Module | None) -> None:
    """Drop the rounded copy of a head, because a change through ``weight.data`` is not noticed."""
    if head is not None:
        _SCREENS.pop(head, None)


def screen_of_head(head: nn.Module, vocabulary: int | None) -> EightBitHead | None:
    """The head in 8 bits, made once; None if it cannot be screened.

    Only a large float32 ``nn.Linear`` without bias can be screened, on a CPU whose 8-bit product is exact.
    """
    if not _can_be_screened(head):
        return None
    weight = head.weight
    state = (weight.data_ptr(), weight._version, vocabulary)
    if head not in _SCREENS or _SCREENS[head][0] != state:
        _SCREENS[head] = state, EightBitHead(weight.detach()[:vocabulary])
    return _SCREENS[head][1]


def _can_be_screened(head: nn.Module) -> TypeGuard[nn.Linear]:
    if not _is_plain(head) or head.bias is not None or head.weight.is_inference():
        return False
    weight = head.weight
    if weight.device.type != "cpu":
        return False
    fits = weight.dtype == torch.float32 and weight.shape[1] % SIDE == 0 and weight.numel() >= MIN_ELEMENTS
    return fits and is_exact()


def _is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head is a weight and nothing more, so that parts of it can be multiplied."""
    return (
        type(head) is nn.Linear
        and "forward" not in vars(head)
        and not head._forward_hooks
        and not head._forward_pre_hooks
        and type(head.weight) in (Tensor, nn.Parameter)
        and has_compute_dtype(head.weight)
        and not head.weight.is_meta
    )


def _multiply(
    head: nn.Module, rows_PD: Tensor, vocabulary: int | None, masked_V: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The top-1 entries and logits from the whole product."""
    if _is_plain(head) and masked_V is None and rows_PD.device.type == "cpu":
        bias_V = None if head.bias is None else head.bias[:vocabulary]
        return top1_by_panels(rows_PD, head.weight[:vocabulary], bias_V)
    chunk = CHUNK if rows_PD.device.type == "cpu" else _rows_at_once(head)
    parts = [_top1_of_logits(head, part_PD, vocabulary, masked_V) for part_PD in torch.split(rows_PD, chunk)]
    token_P, logit_P = (torch.cat(part) for part in zip(*parts, strict=True))
    return token_P, logit_P


def _rows_at_once(head: nn.Module) -> int:
    """The number of rows that an accelerator multiplies at once, so that its logits have a fixed size."""
    entries = getattr(head, "out_features", None) or ACCELERATOR_LOGITS // CHUNK
    return max(1, ACCELERATOR_LOGITS // int(entries))


def _top1_of_logits(
    head: nn.Module, rows_PD: Tensor, vocabulary: int | None, masked_V: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The top-1 entries and logits of rows whose logits are all in memory."""
    logits_PV = (_logits(head, rows_PD) if _is_plain(head) else head(rows_PD))[:, :vocabulary]
    if masked_V is not None:
        logits_PV = logits_PV.masked_fill(masked_V.to(logits_PV.device), -torch.inf)
    logit_P, token_P = logits_PV.max(-1)  # torch promises the first of equal ones
    return token_P, logit_P


def _logits(head: nn.Linear, rows_PD: Tensor) -> Tensor:
    """The logits of a plain head, in float32 at least."""
    weight_VD, bias_V = head.weight, head.bias
    if weight_VD.dtype.itemsize >= torch.float32.itemsize:
        return F.linear(rows_PD, weight_VD, bias_V)
    if rows_PD.device.type == "cuda" and torch.version.cuda:  # products in 16 bits, their sums in 32
        logits_PV = torch.mm(rows_PD, weight_VD.T, out_dtype=torch.float32)
    else:
        logits_PV = F.linear(rows_PD.float(), weight_VD.float())
    return logits_PV if bias_V is None else logits_PV + bias_V.float()


def top1_by_panels(rows_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first largest entry of each row's product and its value [P]; a panel's logits fit the cache."""
    wide = torch.promote_types(rows_PD.dtype, torch.float32)
    rows_PD = rows_PD.to(wide)
    logit_P = rows_PD.new_full((len(rows_PD),), -torch.inf)
    token_P = torch.zeros(len(rows_PD), dtype=torch.long)
    every_row = torch.arange(len(rows_PD))
    for start in range(0, len(weight_VD), PANEL):
        panel = slice(start, start + PANEL)
        bias = None if bias_V is None else bias_V[panel].to(wide)
        logits = F.linear(rows_PD, weight_VD[panel].to(wide), bias)
        take_larger(token_P, logit_P, every_row, logits, start)
    return token_P, logit_P
