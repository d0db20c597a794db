"""Settings that a model cannot be measured with are refused before any image is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement import measure
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings


def test_without_a_final_norm_the_last_layer_cannot_be_normed(
    tiny_llava: LoadedModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provenance would say that it is."""
    monkeypatch.setattr(measure, "dissect", lambda *args: replace(dissect(*args), final_norm=None))

    def run(*, normed: bool) -> None:
        measure.measure(tiny_llava, "pics", samples[:1], Settings(normed_last_layer=normed), lambda *_: None)

    with pytest.raises(InputError, match="no norm follows the last layer") as error:
        run(normed=True)
    assert error.value.remedy == "last_layer"
    run(normed=False)
