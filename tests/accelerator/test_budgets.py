"""What the probe adds to a pass on an accelerator: kernels, waits and bytes, by counting, without one.

The model's own kernels are subtracted, so that another release of transformers does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phasebench.measurement.passes import plain_pass, probed_pass
from phasebench.models.anatomy.adapter import Anatomy, dissect
from phasebench.models.named_models import CONFIGS
from phasebench.models.sizes import empty_model
from tests.accelerator.costs import Costs
from tests.accelerator.device import DeviceTensor
from tests.accelerator.pretend import move

KERNELS_A_LAYER = 26
"""Kernels that the probe may add for each layer, at the size of LLaVA-1.5-13B with one image."""
WAITS = 12
"""Waits for the device in a probed pass, whatever the batch, the model's own included."""
VISUAL, BEFORE, AFTER = 576, 5, 19
LAYERS, WIDTH, VOCABULARY, HEADS = 40, 5120, 32064, 40

pytestmark = pytest.mark.slow

Inputs = dict[str, Tensor]


@pytest.fixture(scope="module")
def llava_13b() -> Any:
    """LLaVA-1.5-13B in bfloat16 without values; its integer buffers have some."""
    model = empty_model(CONFIGS / "llava.json").eval().requires_grad_(requires_grad=False).bfloat16()
    for name, buffer in list(model.named_buffers()):
        if not buffer.is_floating_point():
            part, _, last = name.rpartition(".")
            model.get_submodule(part)._buffers[last] = torch.arange(buffer.numel()).view(buffer.shape)
    return model


def llava_inputs(model: Any, images: int) -> Inputs:
    """Prompts as the processor makes them, with the image after BOS and ``USER:``."""
    ids_BN = torch.randint(3, 30000, (images, BEFORE + VISUAL + AFTER))
    ids_BN[:, BEFORE : BEFORE + VISUAL] = model.config.image_token_id
    pixels = torch.empty(images, 3, 336, 336, dtype=torch.bfloat16, device="meta")
    inputs = {"input_ids": ids_BN, "attention_mask": torch.ones_like(ids_BN), "pixel_values": pixels}
    return {name: tensor.to("cuda") for name, tensor in inputs.items()}


def added(costs: Costs, anatomy: Anatomy, inputs: Inputs) -> tuple[int, int, int]:
    """Kernels and bytes that the probe adds to the plain pass, and the waits of a probed pass."""
    costs.clear()
    plain_pass(anatomy, inputs)
    kernels, moved = costs.kernels.total(), costs.bytes.total()
    costs.clear()
    probed_pass(anatomy, inputs)
    return costs.kernels.total() - kernels, costs.bytes.total() - moved, costs.waits.total()


@pytest.fixture
def on_device(costs: Costs, llava_13b: Any) -> Callable[[int], tuple[Anatomy, Inputs]]:
    def prepare(images: int) -> tuple[Anatomy, Inputs]:
        if not isinstance(llava_13b.lm_head.weight, DeviceTensor):
            move(llava_13b)
        inputs = llava_inputs(llava_13b, images)
        return dissect(llava_13b, inputs), inputs

    return prepare


def test_one_image_adds_few_kernels_a_layer(
    costs: Costs, on_device: Callable[[int], tuple[Anatomy, Inputs]]
) -> None:
    kernels, _, _ = added(costs, *on_device(1))
    assert LAYERS < kernels <= KERNELS_A_LAYER * LAYERS


@pytest.mark.parametrize("images", [1, 8])
def test_the_host_waits_a_few_times_whatever_the_batch(
    costs: Costs, on_device: Callable[[int], tuple[Anatomy, Inputs]], images: int
) -> None:
    _, _, waits = added(costs, *on_device(images))
    assert 2 < waits <= WAITS


def test_the_bytes_that_are_added_are_those_counted_by_hand(
    costs: Costs, on_device: Callable[[int], tuple[Anatomy, Inputs]]
) -> None:
    """Reads and writes of the large operations, in bytes; what is left are rows and norms."""
    _, moved, _ = added(costs, *on_device(1))
    positions = BEFORE + VISUAL + AFTER
    states, visual = 2 * positions * WIDTH, 2 * VISUAL * WIDTH
    # collected (2), made float32 (1 + 2), norms of that (2), multiplied with the masks (2)
    similarity = (LAYERS + 1) * states * 9
    # keys (1), weighted values (2), projected (2 and the weight), their norms (1)
    attention = LAYERS * (states * 6 + 2 * WIDTH**2)
    # selected (2), put together (2), norm: float32 (3), squared (4), mean (2), times (4), back (3), times (2)
    normed = (LAYERS + 1) * visual * 22
    # logits in float32, written and read; the head is read once for three layers, whose states are read once
    logits = (LAYERS + 1) * (4 * VISUAL * VOCABULARY * 2 + visual) + 14 * 2 * VOCABULARY * WIDTH
    expected = similarity + attention + normed + logits
    assert moved == pytest.approx(expected, rel=0.1)
