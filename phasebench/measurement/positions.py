"""The visual and text positions of a prompt, found from the token ids, never from constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
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
    _copies: dict[torch.device, Positions] = field(default_factory=dict, repr=False, compare=False)

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
        order_N = torch.arange(ids_BN.shape[1], device=ids_BN.device)
        positions = cls(visual_BN, text_BN, (text_BN * order_N).argmax(1))
        for kind, mask in zip(("image tokens", "text tokens"), positions.host_masks, strict=True):
            if not mask.any(1).all():
                raise InputError(
                    f"the prompt gives no {kind} (image token id {image_token})", remedy="prompt"
                )
        return positions

    def on(self, device: torch.device) -> Positions:
        """The same positions on a device."""
        if device == self.last_B.device:
            return self
        if device not in self._copies:
            masks = self.visual_BN.to(device), self.text_BN.to(device)
            copy = self._copies[device] = Positions(*masks, self.last_B.to(device))
            vars(copy)["host_masks"] = self.host_masks
        return self._copies[device]

    @cached_property
    def host_masks(self) -> npt.NDArray[np.bool_]:
        """``visual_BN`` and ``text_BN`` in main memory, [2, B, N]: a device is waited for once a pass."""
        masks: npt.NDArray[np.bool_] = torch.stack([self.visual_BN, self.text_BN]).cpu().numpy()
        return masks

    @property
    def counts(self) -> list[int]:
        """The number of visual positions of each image."""
        return [int(count) for count in self.host_masks[0].sum(1)]

    @cached_property
    def index_P(self) -> Tensor:
        """The visual positions of all images, counted through the batch: b * N + n."""
        index = torch.from_numpy(self.host_masks[0].reshape(-1).nonzero()[0])
        return index.to(self.last_B.device)

    @cached_property
    def _padding_BN1(self) -> Tensor | None:
        """True at padding [B, N, 1]; None without padding."""
        if self.host_masks.any(0).all():
            return None
        return ~(self.visual_BN | self.text_BN)[..., None]

    def clear_padding(self, values: Tensor) -> Tensor:
        """The values [..., B, N, X] with 0 at padding, where they are arbitrary.

        Values of another length are unchanged.
        """
        padding_BN1 = self.on(values.device)._padding_BN1
        if padding_BN1 is None or values.shape[-3:-1] != padding_BN1.shape[:2]:
            return values
        return values.masked_fill(padding_BN1, 0.0)

    def layout(self, row: int) -> dict[str, Any]:
        """One row's length, spans [start, end) of image tokens, number of text positions, as plain data."""
        real = self.host_masks[:, row].any(0)
        visual = self.host_masks[0, row, real].tolist()
        starts = [i for i, v in enumerate(visual) if v and (i == 0 or not visual[i - 1])]
        ends = [i + 1 for i, v in enumerate(visual) if v and (i + 1 == len(visual) or not visual[i + 1])]
        spans = [list(span) for span in zip(starts, ends, strict=True)]
        return {"length": len(visual), "visual": spans, "text": len(visual) - sum(visual)}
