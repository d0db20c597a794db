"""A compiled model has the curves of the model that was compiled, and no pass is compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from phasebench.datasets.sample import Sample
from phasebench.measurement.compiled import NOTE
from phasebench.measurement.measure import measure
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings


def whole(model: Any, backend: Any) -> Any:
    return torch.compile(model, backend=backend)


def in_place(model: Any, backend: Any) -> Any:
    model.compile(backend=backend)
    return model


def each_layer(model: Any, backend: Any) -> Any:
    for layer in model.get_decoder().layers:
        layer.compile(backend=backend)
    return model


@pytest.mark.parametrize("compiled", [whole, in_place, each_layer])
def test_it_is_measured_as_it_was_before(
    tiny_llava: LoadedModel, samples: list[Sample], compiled: Callable[[Any, Any], Any]
) -> None:
    def backend(*_: Any) -> Any:
        pytest.fail("a pass was compiled")

    settings = Settings(device="cpu")
    expected = measure(tiny_llava, "pics", samples, settings, lambda _: None)
    model = compiled(copy.deepcopy(tiny_llava.model), backend)
    loaded = LoadedModel("tiny-llava", model, tiny_llava.processor, tiny_llava.prompt, tiny_llava.checkpoint)
    found = measure(loaded, "pics", samples, settings, lambda _: None)
    assert found.curves.table.equals(expected.curves.table)
    assert NOTE in found.notes
    assert NOTE not in expected.notes
