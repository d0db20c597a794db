"""A measurement on pretended devices: no tensor on the wrong one, and the numbers of a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map_only

from phasebench.datasets.sample import Sample
from phasebench.measurement.measure import measure
from phasebench.measurement.passes import Row, probed_pass
from phasebench.models.anatomy.adapter import dissect
from phasebench.settings import Settings
from tests.accelerator.costs import Costs
from tests.accelerator.pretend import move
from tests.support.checkpoints import load_tiny

if TYPE_CHECKING:
    from PIL import Image

pytestmark = pytest.mark.slow

Inputs = dict[str, Tensor]
TINY = ("tiny-llava", "tiny-instructblip", "tiny-random-blip2", "tiny-random-llava-next")


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_rows_are_those_of_the_cpu(
    costs: Costs, cache: Path, pictures: list[Image.Image], name: str, images: int
) -> None:
    """No tensor of the probe is on another device than what it meets; three images are padded."""
    loaded = load_tiny(name, cache)
    inputs = loaded.inputs(pictures[:images])
    if images > 1 and "attention_mask" in inputs:
        inputs = padded_left(inputs)
    expected = probed_pass(dissect(loaded.model, inputs), inputs)
    move(loaded.model)
    there = {key: tensor.to("cuda") for key, tensor in inputs.items()}
    assert_equal(probed_pass(dissect(loaded.model, there), there), expected)


def test_a_model_on_two_devices(costs: Costs, cache: Path, pictures: list[Image.Image]) -> None:
    loaded = load_tiny("tiny-llava", cache)
    inputs = loaded.inputs(pictures[:2])
    expected = probed_pass(dissect(loaded.model, inputs), inputs)
    move(loaded.model)
    decoder = loaded.model.get_decoder()
    move_hooked(decoder.layers[3:], "cuda:1")
    decoder.norm.register_forward_pre_hook(to_first_device)
    there = {key: tensor.to("cuda") for key, tensor in inputs.items()}
    assert_equal(probed_pass(dissect(loaded.model, there), there), expected)


def test_all_of_a_measurement_runs_there(costs: Costs, cache: Path, samples: list[Sample]) -> None:
    """Self-test, passes, both controls and the blank image."""
    loaded = load_tiny("tiny-llava", cache)
    settings = Settings(device="cpu", controls=True, batch_size=2)
    expected = measure(loaded, "pics", samples, settings, lambda _: None)
    move(loaded.model)
    found = measure(loaded, "pics", samples, settings, lambda _: None)
    assert found.curves.provenance["device"] != expected.curves.provenance["device"]
    for name in expected.curves.names:
        assert np.allclose(found.curves.array(name), expected.curves.array(name), equal_nan=True, atol=1e-6)
    assert set(found.controls) == set(expected.controls)


def move_hooked(layers: Any, device: str) -> None:
    """Move layers to another device, with hooks that move what enters them, as accelerate's do."""

    def carry(_: Any, args: Any, kwargs: Any) -> Any:
        return tree_map_only(Tensor, lambda tensor: tensor.to(device), (args, kwargs))

    for layer in layers:
        move(layer, device)
        layer.register_forward_pre_hook(carry, with_kwargs=True)


def to_first_device(_: Any, args: tuple[Tensor]) -> tuple[Tensor]:
    """A hook that moves states back."""
    return (args[0].to("cuda:0"),)


def padded_left(inputs: Inputs) -> Inputs:
    """The same prompts with two positions of padding before each."""
    changed = dict(inputs)
    for key, value in (("input_ids", 0), ("attention_mask", 0)):
        changed[key] = F.pad(inputs[key], (2, 0), value=value)
    return changed


def assert_equal(rows: list[Row], others: list[Row]) -> None:
    """Same tokens, and curves to the last bits."""
    for row, other in zip(rows, others, strict=True):
        assert np.array_equal(row.tokens, other.tokens)
        assert row.layout == other.layout
        for name, curve in row.curves.items():
            assert np.allclose(curve, other.curves[name], equal_nan=True, rtol=1e-5, atol=1e-6), name
