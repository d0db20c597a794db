"""LogitLens (nostalgebraist; paper section 3.3): decoding visual states into tokens.

The module ``recall`` turns the tokens into words. Shapes: B batch, L + 1 layers, P visual positions, D width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.measurement import screen
from phasebench.models.anatomy.parts import has_compute_dtype

BUFFER_SIZES = {"cpu": 1 << 20}
"""Kind of a device -> states are decoded together once they have this many numbers."""
ACCELERATOR_BUFFER_SIZE = 1 << 23
"""The same on accelerators: three layers of LLaVA-1.5-13B."""


class Decoder:
    """Decodes states that are added layer by layer into their top-1 tokens and logits.

    A matrix product with a few dozen rows is slow, so layers are collected until they have ``BUFFER_SIZES``
    numbers; memory never has more than that and one layer.
    """

    def __init__(
        self,
        final_norm: nn.Module | None,
        head: nn.Module,
        vocabulary: int | None = None,
        masked_V: Tensor | None = None,
    ) -> None:
        """Make a decoder for one pass.

        Args:
            final_norm: applied to states before the head; None leaves them as they are.
            head: the output head.
            vocabulary: the number of entries that count; the rest is padding.
            masked_V: True for entries that are never decoded.
        """
        self._final_norm = final_norm
        self._head = head
        self._vocabulary = vocabulary
        self._masked_V = masked_V
        self._buffer: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._layers = 0
        self._autocast: dict[str, Any] = {}

    def add(self, hidden_PD: Tensor) -> None:
        """Take the states of one more layer, as many as of the others."""
        self._layers += 1
        device = self._buffer[0].device if self._buffer else hidden_PD.device
        self._buffer.append(hidden_PD.to(device))
        kind = device.type
        self._autocast = {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        size = BUFFER_SIZES.get(device.type, ACCELERATOR_BUFFER_SIZE)
        if sum(rows_PD.numel() for rows_PD in self._buffer) >= size:
            self._decode()

    def tokens(self) -> Tensor:
        """The top-1 token of each state [L + 1, P]."""
        return self._by_layer(self._tokens)

    def logits(self) -> Tensor:
        """The logit of that token [L + 1, P]."""
        return self._by_layer(self._logits)

    def _by_layer(self, parts: list[Tensor]) -> Tensor:
        if self._buffer:
            self._decode()
        return torch.cat(parts).view(self._layers, -1)

    def _decode(self) -> None:
        rows_PD = torch.cat(self._buffer)
        self._buffer.clear()
        kind = rows_PD.device.type
        with torch.autocast(kind, **self._autocast):  # of the pass, which may be over
            normed_PD = rows_PD if self._final_norm is None else self._final_norm(rows_PD)
        with torch.autocast(kind, enabled=False):
            rows_PD = normed_PD.to(_dtype(self._head, normed_PD))
            token_P, logit_P = screen.top1(self._head, rows_PD, self._vocabulary, self._masked_V)
        self._tokens.append(token_P)
        self._logits.append(logit_P)


def _dtype(head: nn.Module, rows_PD: Tensor) -> torch.dtype:
    """The dtype that a head multiplies in, which under an autocast is not that of the states."""
    weight = getattr(head, "weight", None)
    return weight.dtype if weight is not None and has_compute_dtype(weight) else rows_PD.dtype


def lens_curves(logits_LP: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """The lens curves that need no captions, each [L + 1, B] float32 (paper section 3.3).

    Args:
        logits_LP: the largest logit at each visual position of a batch.
        counts: the number of visual positions of each image.
    """
    means = [image_LP.mean(1) for image_LP in torch.split(logits_LP.float(), list(counts), dim=1)]
    return {"max_logit": torch.stack(means, dim=1)}
