"""The top-1 entries of an output head, certified, at a lower cost than the full matrix product.

Only the largest logit needs to be exact. The head and the states are rounded to 8 bits, their product is
exact in integers, and the error that rounding can cause in a logit is bounded (Cauchy and Schwarz):

    |h . w - h' . w'| <= |h - h'| |w| + |h'| |w - w'|

For each state, only blocks of entries whose bound reaches the best exact logit are multiplied in float32,
about one in a hundred. Both sides are rotated first (by a Hadamard matrix in blocks, which changes no
product); without that a few large dimensions of the states would use up all 8 bits. Where the first and the
second entry are closer than float32 products may differ by the order of their sums, float64 decides.

Shapes: P positions, D width, V vocabulary, K blocks of entries, C (state, block) pairs that are candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK, PANEL = 128, 1024
"""Entries that are kept or excluded together, and entries that are multiplied at once, within the cache."""
SIDE = 64
"""Side of the Hadamard matrix: it has to divide the width."""
LARGEST_STATE, LARGEST_WEIGHT, ZERO = 63, 127, 64
"""Largest integers, and the shift of states: they take 7 bits, because AVX2 adds two products in 16."""
ROUNDING = 2.0**-24
"""Relative error of one float32 operation."""
HARD_SHARE, HARD_STATES = 0.25, 256
"""A state whose open blocks are more than this share of all is hard. More hard states than this are left
unproven, because the whole product is faster; for fewer, the whole head goes through memory either way."""


class EightBitHead:
    """An output head [V, D] in 8 bits."""

    def __init__(self, weight_VD: Tensor) -> None:
        self._weight = weight_VD
        self._hadamard = _hadamard(SIDE)
        # Relative to |h| |w|: how far a float32 product may be from the real one in any order of its sums,
        # and this for three products and both rotations, with room for the roundings of the bound itself.
        self._order = ROUNDING * weight_VD.shape[1]
        self._slack = 4 * (self._order + ROUNDING * SIDE**1.5)
        panels = [self._pack(panel_VD) for panel_VD in torch.split(weight_VD, PANEL)]
        self._panels = [(packed, step_V) for packed, step_V, _, _ in panels]
        self._norm_K = torch.cat([norm_K for _, _, norm_K, _ in panels])
        self._error_K = torch.cat([error_K for _, _, _, error_K in panels])

    def top1(self, rows_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best entry of each state, its logit, and whether both are proven; each [P].

        Among entries that are equal in float32, the first is the best. States that are not finite, or that
        leave too many blocks open, are not proven.

        Args:
            rows_PD: the states, float32.
        """
        rotated_PD = self._rotate(rows_PD)
        norm_P1 = rotated_PD.norm(dim=1, keepdim=True)
        rounded_PD, step_P1 = _round(rotated_PD, LARGEST_STATE)
        lost_P1 = (rotated_PD - rounded_PD * step_P1).norm(dim=1, keepdim=True)
        score_PK = self._scores(rounded_PD) * step_P1
        error_PK = lost_P1 * self._norm_K + (norm_P1 + lost_P1) * self._error_K
        reach_PK = score_PK + error_PK + self._slack * norm_P1 * self._norm_K.amax()
        first_PK = torch.zeros_like(reach_PK, dtype=torch.bool)
        first_PK.scatter_(1, score_PK.argmax(1, keepdim=True), True)
        candidates = self._multiply(rows_PD, first_PK)
        open_PK = (reach_PK >= candidates.best(len(rows_PD))[:, None]) & ~first_PK
        easy_P1 = open_PK.float().mean(1, keepdim=True) <= HARD_SHARE
        if int((~easy_P1).sum()) <= HARD_STATES:
            easy_P1 = torch.ones_like(easy_P1)
        candidates = candidates.join(self._multiply(rows_PD, open_PK & easy_P1))
        token_P, logit_P = self._settle(rows_PD, candidates, 4 * self._order * norm_P1[:, 0])
        return token_P, logit_P, easy_P1[:, 0] & logit_P.isfinite()

    def _multiply(self, rows_PD: Tensor, open_PK: Tensor) -> _Candidates:
        """The two largest float32 logits of the open blocks."""
        row_C = open_PK.T.nonzero()[:, 1]
        tops = [(block, logits.topk(2)) for block, _, logits in self._products(rows_PD, open_PK)]
        value_C2 = torch.cat([rows_PD.new_empty(0, 2), *(top.values for _, top in tops)])
        entry_C = torch.cat([row_C[:0], *(top.indices[:, 0] + block * BLOCK for block, top in tops)])
        return _Candidates(row_C, value_C2, entry_C, self._norm_K[entry_C // BLOCK])

    def _settle(self, rows_PD: Tensor, candidates: _Candidates, doubt_P: Tensor) -> tuple[Tensor, Tensor]:
        """The best entry of each state and its logit [P].

        Where another entry's logit is within ``doubt_P`` times the norm, the blocks of both are multiplied in
        float64; of entries whose results are equal in float32, the first is taken.
        """
        token_P, logit_P, near_C = _leaders(candidates, doubt_P)
        near_PK = torch.zeros(len(rows_PD), len(self._norm_K), dtype=torch.bool)
        near_PK[candidates.row_C[near_C], candidates.entry_C[near_C] // BLOCK] = True
        logit_P[near_PK.any(1)] = -torch.inf
        for block, states_C, logits in self._products(rows_PD, near_PK, torch.float64):
            take_larger(token_P, logit_P, states_C, logits.float(), block * BLOCK)
        return token_P, logit_P

    def _products(
        self, rows_PD: Tensor, open_PK: Tensor, dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The open blocks in turn: number, states that they are open for [C], logits [C, at least 2]."""
        row_C = open_PK.T.nonzero()[:, 1]
        for block, states_C in enumerate(torch.split(row_C, open_PK.sum(0).tolist())):
            if len(states_C):
                weight = self._weight[block * BLOCK : (block + 1) * BLOCK].to(dtype)
                logits = rows_PD[states_C].to(dtype) @ weight.T
                yield block, states_C, logits if len(weight) > 1 else F.pad(logits, (0, 1), value=-torch.inf)

    def _scores(self, rounded_PD: Tensor) -> Tensor:
        """The largest 8-bit score of each block [P, K], in steps of the states."""
        states_PD = (rounded_PD + ZERO).to(torch.uint8)
        # Filled in place: small results between large ones that are freed would fragment memory.
        score_PK = states_PD.new_empty(len(states_PD), len(self._norm_K), dtype=torch.float32)
        parts = torch.split(score_PK, PANEL // BLOCK, dim=1)
        for panel, part_PK in zip(self._panels, parts, strict=True):
            part_PK.copy_(_block_max(_product(states_PD, *panel)))
        return score_PK

    def _pack(self, weight_VD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A panel in 8 bits, its steps [V], and the largest norm and rounding error in its blocks [K]."""
        rotated_VD = self._rotate(weight_VD)
        rounded_VD, step_V1 = _round(rotated_VD, LARGEST_WEIGHT)
        error_V = (rotated_VD - rounded_VD * step_V1).norm(dim=1)
        norm_V = rotated_VD.norm(dim=1)
        packed = torch.ops.onednn.qlinear_prepack(rounded_VD.to(torch.int8), None)
        return packed, step_V1[:, 0], _block_max(norm_V[None])[0], _block_max(error_V[None])[0]

    def _rotate(self, rows_PD: Tensor) -> Tensor:
        return (rows_PD.reshape(len(rows_PD), -1, SIDE) @ self._hadamard).flatten(1)


class _Candidates(NamedTuple):
    """Blocks that were multiplied, C in all.

    Attributes:
        row_C: the state.
        value_C2: the two largest logits.
        entry_C: the entry of the largest.
        norm_C: the largest norm of the block's entries.
    """

    row_C: Tensor
    value_C2: Tensor
    entry_C: Tensor
    norm_C: Tensor

    def join(self, more: _Candidates) -> _Candidates:
        return _Candidates(*(torch.cat(pair) for pair in zip(self, more, strict=True)))

    def best(self, positions: int) -> Tensor:
        """The largest logit of each state [P]."""
        return _largest(self.row_C, self.value_C2[:, 0], positions)


def _leaders(candidates: _Candidates, doubt_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best entry of each state and its logit [P], and the blocks to decide between [C].

    These are the blocks that may hold the best entry of a state where another entry's logit is within
    ``doubt_P`` times the norm.
    """
    row_C, (first_C, second_C) = candidates.row_C, candidates.value_C2.unbind(1)
    logit_P = candidates.best(len(doubt_P))
    least_C = (logit_P - doubt_P * _largest(row_C, candidates.norm_C, len(doubt_P)))[row_C]
    many_P = torch.bincount(row_C, (first_C >= least_C).double() + (second_C >= least_C), len(doubt_P)) > 1
    leads_C = first_C == logit_P[row_C]
    token_P = torch.zeros_like(logit_P, dtype=torch.long).scatter_(
        0, row_C[leads_C], candidates.entry_C[leads_C]
    )
    return token_P, logit_P, (first_C >= least_C) & many_P[row_C]


def _largest(row_C: Tensor, value_C: Tensor, positions: int) -> Tensor:
    return value_C.new_full((positions,), -torch.inf).scatter_reduce_(0, row_C, value_C, "amax")


def take_larger(token_P: Tensor, logit_P: Tensor, states_C: Tensor, logits: Tensor, start: int) -> None:
    """Update the best entry and its logit of some states, where these logits have a larger one.

    The logits belong to the entries from ``start`` on; of equal ones the first is taken.
    """
    value = logits.amax(-1)
    better = (value > logit_P[states_C]).nonzero()[:, 0]
    logit_P[states_C[better]] = value[better]
    token_P[states_C[better]] = logits[better].argmax(-1) + start


@lru_cache(maxsize=1)
def is_exact() -> bool:
    """Whether this machine's 8-bit product is exact up to the largest sums."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randint(1, 2 * ZERO, (8, 2 * SIDE), generator=draw).to(torch.uint8)
    weight = torch.randint(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (8, 2 * SIDE), generator=draw)
    states[0], weight[0], weight[1] = 2 * ZERO - 1, LARGEST_WEIGHT, -LARGEST_WEIGHT
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight.to(torch.int8), None)
        product = _product(states, packed, torch.ones(8))
    except (RuntimeError, AttributeError, TypeError):  # another processor, another torch
        return False
    return torch.equal(product.long(), (states.long() - ZERO) @ weight.T)


def _product(states_PD: Tensor, packed: Tensor, step_V: Tensor) -> Tensor:
    """(states - ZERO) times a packed panel, exact in integers, then in float32 times its steps [P, V]."""
    zeros = torch.zeros(len(step_V), dtype=torch.int64)
    result: Tensor = torch.ops.onednn.qlinear_pointwise(
        states_PD, 1.0, ZERO, packed, step_V, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


def _round(rows_PD: Tensor, largest: int) -> tuple[Tensor, Tensor]:
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
