"""The lens' top-1 tokens below the cost of its matrix product, each one certified.

The losers need no exact logits. The head and the states are rounded to 8 bits, their product is exact
in integers, and what the rounding can have cost a logit is bounded (Cauchy and Schwarz):

    |h . w - h' . w'| <= |h - h'| |w| + |h'| |w - w'|

Per state, only blocks of entries whose bound reaches the best exact logit are multiplied in float32, about
one in a hundred. Both sides are rotated before (a Hadamard matrix in blocks: it changes no product), or a
few large dimensions of the states would take all the 8 bits. Where the first and the second are closer than
float32 products may differ by the order of their sums, float64 decides.

Shapes: P positions, D width, V vocabulary, K blocks of entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK, PANEL = 128, 1024
"""Entries that are kept or excluded together, and that are multiplied at once, within the cache."""
SIDE = 64
"""Of the Hadamard matrix: a width that it does not divide has no screen."""
LARGEST_STATE, LARGEST_WEIGHT, ZERO = 63, 127, 64
"""Of the integers, and what states are shifted by: they take 7 bits, for AVX2 adds two products in 16."""
ROUNDING = 2.0**-24
"""Relative error of one float32 operation."""
WORTH = 1 << 22
"""Elements of a head below which the whole product costs no more."""
HARD, FEW = 0.25, 256
"""Share of the blocks that a state may keep; of more than ``FEW`` states that keep more none is answered. For
a few the whole head goes through memory either way."""


class Screen:
    """An output head [V, D] in 8 bits; ``screen_of`` says which heads have one."""

    def __init__(self, weight_VD: Tensor) -> None:
        self._weight = weight_VD
        self._hadamard = _hadamard(SIDE)
        # Relative to |h| |w|: how far a float32 product may be from the real one in any order of its sums,
        # and this for three products and both rotations, with room for the roundings of the bound itself.
        self._order = ROUNDING * weight_VD.shape[1]
        self._slack = 4 * (self._order + ROUNDING * SIDE**1.5)
        panels = [self._packed(panel_VD) for panel_VD in torch.split(weight_VD, PANEL)]
        self._panels = [(packed, step_V) for packed, step_V, _, _ in panels]
        self._norm_K = torch.cat([norm_K for _, _, norm_K, _ in panels])
        self._error_K = torch.cat([error_K for _, _, _, error_K in panels])

    def top1(self, rows_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best entry of each state, its logit, and whether both are proven; each [P].

        Of entries that are equal in float32 the first. Not proven: states that are not finite, or keep too
        many blocks.
        """
        rotated_PD = self._rotate(rows_PD)
        norm_P1 = rotated_PD.norm(dim=1, keepdim=True)
        rounded_PD, step_P1 = _rounded(rotated_PD, LARGEST_STATE)
        lost_P1 = (rotated_PD - rounded_PD * step_P1).norm(dim=1, keepdim=True)
        score_PK = self._scores(rounded_PD) * step_P1
        error_PK = lost_P1 * self._norm_K + (norm_P1 + lost_P1) * self._error_K
        reach_PK = score_PK + error_PK + self._slack * norm_P1 * self._norm_K.amax()
        first_PK = torch.zeros_like(reach_PK, dtype=torch.bool)
        first_PK.scatter_(1, score_PK.argmax(1, keepdim=True), True)
        found = self._rescored(rows_PD, first_PK)
        kept_PK = (reach_PK >= found.best(len(rows_PD))[:, None]) & ~first_PK
        easy_P1 = kept_PK.float().mean(1, keepdim=True) <= HARD
        if int((~easy_P1).sum()) <= FEW:
            easy_P1 = torch.ones_like(easy_P1)
        found = found.joined(self._rescored(rows_PD, kept_PK & easy_P1))
        token_P, logit_P = self._settled(rows_PD, found, 4 * self._order * norm_P1[:, 0])
        return token_P, logit_P, easy_P1[:, 0] & logit_P.isfinite()

    def _rescored(self, rows_PD: Tensor, kept_PK: Tensor) -> _Found:
        """The two largest float32 logits of the kept blocks."""
        row_C = kept_PK.T.nonzero()[:, 1]
        tops = [(block, logits.topk(2)) for block, _, logits in self._products(rows_PD, kept_PK)]
        value_C2 = torch.cat([rows_PD.new_empty(0, 2), *(top.values for _, top in tops)])
        entry_C = torch.cat([row_C[:0], *(top.indices[:, 0] + block * BLOCK for block, top in tops)])
        return _Found(row_C, value_C2, entry_C, self._norm_K[entry_C // BLOCK])

    def _settled(self, rows_PD: Tensor, found: _Found, doubt_P: Tensor) -> tuple[Tensor, Tensor]:
        """The best entry of each state and its logit [P].

        Where another one's logit is within ``doubt_P`` times the norm, the blocks of both are multiplied in
        float64; of those that are equal in float32 then, the first.
        """
        token_P, logit_P, near_C = _leading(found, doubt_P)
        near_PK = torch.zeros(len(rows_PD), len(self._norm_K), dtype=torch.bool)
        near_PK[found.row_C[near_C], found.entry_C[near_C] // BLOCK] = True
        logit_P[near_PK.any(1)] = -torch.inf
        for block, where, logits in self._products(rows_PD, near_PK, torch.float64):
            take_larger(token_P, logit_P, where, logits.float(), block * BLOCK)
        return token_P, logit_P

    def _products(
        self, rows_PD: Tensor, kept_PK: Tensor, dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The kept blocks in turn: number, states that keep it [C], their logits [C, at least 2]."""
        row_C = kept_PK.T.nonzero()[:, 1]
        for block, where in enumerate(torch.split(row_C, kept_PK.sum(0).tolist())):
            if len(where):
                weight = self._weight[block * BLOCK : (block + 1) * BLOCK].to(dtype)
                logits = rows_PD[where].to(dtype) @ weight.T
                yield block, where, logits if len(weight) > 1 else F.pad(logits, (0, 1), value=-torch.inf)

    def _scores(self, rounded_PD: Tensor) -> Tensor:
        """The largest 8-bit score of each block [P, K], in steps of the states."""
        states_PD = (rounded_PD + ZERO).to(torch.uint8)
        # Filled in place: small results kept between large ones that are let go leave holes in memory.
        score_PK = states_PD.new_empty(len(states_PD), len(self._norm_K), dtype=torch.float32)
        parts = torch.split(score_PK, PANEL // BLOCK, dim=1)
        for panel, part_PK in zip(self._panels, parts, strict=True):
            part_PK.copy_(_block_max(_product(states_PD, *panel)))
        return score_PK

    def _packed(self, weight_VD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A panel in 8 bits, its steps [V], and the largest norm and rounding error in its blocks [K]."""
        rotated_VD = self._rotate(weight_VD)
        rounded_VD, step_V1 = _rounded(rotated_VD, LARGEST_WEIGHT)
        error_V = (rotated_VD - rounded_VD * step_V1).norm(dim=1)
        norm_V = rotated_VD.norm(dim=1)
        packed = torch.ops.onednn.qlinear_prepack(rounded_VD.to(torch.int8), None)
        return packed, step_V1[:, 0], _block_max(norm_V[None])[0], _block_max(error_V[None])[0]

    def _rotate(self, rows_PD: Tensor) -> Tensor:
        return (rows_PD.reshape(len(rows_PD), -1, SIDE) @ self._hadamard).flatten(1)


class _Found(NamedTuple):
    """Blocks that were multiplied, C in all: of which state, their two largest logits, the entry of the
    largest, the largest norm of their entries."""

    row_C: Tensor
    value_C2: Tensor
    entry_C: Tensor
    norm_C: Tensor

    def joined(self, more: _Found) -> _Found:
        return _Found(*(torch.cat(pair) for pair in zip(self, more, strict=True)))

    def best(self, positions: int) -> Tensor:
        """The largest logit of each state [P]."""
        return _largest(self.row_C, self.value_C2[:, 0], positions)


def _leading(found: _Found, doubt_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best entry of each state and its logit [P], and which blocks may hold the best of a state in
    which another one's is within ``doubt_P`` times the norm [C]."""
    row_C, (first_C, second_C) = found.row_C, found.value_C2.unbind(1)
    logit_P = found.best(len(doubt_P))
    least_C = (logit_P - doubt_P * _largest(row_C, found.norm_C, len(doubt_P)))[row_C]
    many_P = torch.bincount(row_C, (first_C >= least_C).double() + (second_C >= least_C), len(doubt_P)) > 1
    leads_C = first_C == logit_P[row_C]
    token_P = torch.zeros_like(logit_P, dtype=torch.long).scatter_(0, row_C[leads_C], found.entry_C[leads_C])
    return token_P, logit_P, (first_C >= least_C) & many_P[row_C]


def _largest(row_C: Tensor, value_C: Tensor, positions: int) -> Tensor:
    return value_C.new_full((positions,), -torch.inf).scatter_reduce_(0, row_C, value_C, "amax")


def take_larger(token_P: Tensor, logit_P: Tensor, where: Tensor, logits: Tensor, start: int) -> None:
    """Into token and logit of the states ``where``: their largest of these logits, where it is larger.

    The logits are of the entries from ``start`` on; of equal ones the first is taken.
    """
    value = logits.amax(-1)
    better = (value > logit_P[where]).nonzero()[:, 0]
    logit_P[where[better]] = value[better]
    token_P[where[better]] = logits[better].argmax(-1) + start


_SCREENS: WeakKeyDictionary[nn.Module, tuple[tuple[int, int, int | None], Screen]] = WeakKeyDictionary()


def screen_of(head: nn.Module, vocabulary: int | None) -> Screen | None:
    """The screen of a head, made once: of a large float32 ``nn.Linear`` without bias, on a CPU that has
    the 8-bit product; else None."""
    if not suited(head):
        return None
    weight = head.weight
    state = (weight.data_ptr(), weight._version, vocabulary)
    if head not in _SCREENS or _SCREENS[head][0] != state:
        _SCREENS[head] = state, Screen(weight.detach()[:vocabulary])
    return _SCREENS[head][1]


def forget(head: nn.Module | None) -> None:
    """Make the head's screen anew at the next call: a change through ``weight.data`` is not seen here."""
    if head is not None:
        _SCREENS.pop(head, None)


def suited(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether ``screen_of`` has one."""
    if not is_plain(head) or head.bias is not None or head.weight.is_inference():
        return False
    weight = head.weight
    fits = weight.dtype == torch.float32 and weight.shape[1] % SIDE == 0 and weight.numel() >= WORTH
    return fits and _exact()


def is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head is its weight in main memory and nothing more, so that parts of it can be multiplied."""
    return (
        type(head) is nn.Linear
        and "forward" not in vars(head)
        and not head._forward_hooks
        and not head._forward_pre_hooks
        and head.weight.device.type == "cpu"
    )


@lru_cache(maxsize=1)
def _exact() -> bool:
    """Whether this machine's 8-bit product is exact up to the largest sums."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randint(1, 2 * ZERO, (8, 2 * SIDE), generator=draw).to(torch.uint8)
    weight = torch.randint(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (8, 2 * SIDE), generator=draw)
    states[0], weight[0], weight[1] = 2 * ZERO - 1, LARGEST_WEIGHT, -LARGEST_WEIGHT
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight.to(torch.int8), None)
        found = _product(states, packed, torch.ones(8))
    except (RuntimeError, AttributeError, TypeError):  # another processor, another torch
        return False
    return torch.equal(found.long(), (states.long() - ZERO) @ weight.T)


def _product(states_PD: Tensor, packed: Tensor, step_V: Tensor) -> Tensor:
    """(states - ZERO) times a packed panel, exact in integers, then in float32 times its steps [P, V]."""
    zeros = torch.zeros(len(step_V), dtype=torch.int64)
    result: Tensor = torch.ops.onednn.qlinear_pointwise(
        states_PD, 1.0, ZERO, packed, step_V, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


def _rounded(rows_PD: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers up to ``largest`` of their own step [P, 1]."""
    step_P1 = rows_PD.abs().amax(1, keepdim=True) / largest
    step_P1 = step_P1.clamp_min(torch.finfo(torch.float32).tiny)
    return (rows_PD / step_P1).round(), step_P1


def _block_max(values_PV: Tensor) -> Tensor:
    """The largest of each block's entries [P, K]."""
    padded = F.pad(values_PV, (0, -values_PV.shape[1] % BLOCK), value=-torch.inf)
    return padded.view(len(padded), -1, BLOCK).amax(2)


def _hadamard(side: int) -> Tensor:
    """An orthogonal matrix of entries that differ in sign only."""
    matrix, two = torch.ones(1, 1), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    while len(matrix) < side:
        matrix = torch.kron(matrix, two)
    scaled: Tensor = matrix / side**0.5
    return scaled
