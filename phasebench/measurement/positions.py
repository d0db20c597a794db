"""The visual and text positions of a prompt, found from the token ids, never from constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phasebench.errors import InputError
from phasebench.models.anatomy.parts import IMAGE_MASK


@dataclass(frozen=True)
class Positions:
    """Masks of a batch: visual [B, N], text [B, N], and t, the last text token of each row [B]."""

    visual_BN: Tensor
    text_BN: Tensor
    last_B: Tensor

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Tensor], image_token: int | None) -> Positions:
        """Find the positions from ``input_ids`` and ``attention_mask``.

        Every position that is neither visual nor padding is text, the template's words and BOS included.

        Args:
            inputs: the processor's tensors, [B, N] each.
            image_token: the id of image positions; None if the inputs mark them (``parts.IMAGE_MASK``).

        Raises:
            InputError: a row has no visual or no text position.
        """
        ids_BN = inputs["input_ids"]
        real_BN = inputs.get("attention_mask", torch.ones_like(ids_BN)).bool()
        image_BN = inputs[IMAGE_MASK].bool() if image_token is None else ids_BN == image_token
        visual_BN = image_BN & real_BN
        text_BN = real_BN & ~visual_BN
        for kind, mask_BN in (("image tokens", visual_BN), ("text tokens", text_BN)):
            if not bool(mask_BN.any(1).all()):
                raise InputError(
                    f"the prompt gives no {kind} (image token id {image_token})", remedy="prompt"
                )
        order_N = torch.arange(ids_BN.shape[1], device=ids_BN.device)
        return cls(visual_BN, text_BN, (text_BN * order_N).argmax(1))

    @cached_property
    def _padding_BN1(self) -> Tensor | None:
        """True at padding [B, N, 1]; None without padding."""
        padding_BN1 = ~(self.visual_BN | self.text_BN)[..., None]
        return padding_BN1 if bool(padding_BN1.any()) else None

    def clear_padding(self, values_BNX: Tensor) -> Tensor:
        """The values with 0 at padding, where they are arbitrary; values of another length are unchanged."""
        padding_BN1 = self._padding_BN1
        if padding_BN1 is None or values_BNX.shape[:2] != padding_BN1.shape[:2]:
            return values_BNX
        return values_BNX.masked_fill(padding_BN1.to(values_BNX.device), 0.0)

    def layout(self, row: int) -> dict[str, Any]:
        """One row's length, spans [start, end) of image tokens, number of text positions, as plain data."""
        real = (self.visual_BN | self.text_BN)[row].nonzero()[:, 0]
        visual = self.visual_BN[row, real].tolist()
        starts = [i for i, v in enumerate(visual) if v and (i == 0 or not visual[i - 1])]
        ends = [i + 1 for i, v in enumerate(visual) if v and (i + 1 == len(visual) or not visual[i + 1])]
        spans = [list(span) for span in zip(starts, ends, strict=True)]
        return {"length": len(visual), "visual": spans, "text": len(visual) - sum(visual)}
