"""Official files that a test may break, and models converted from complete ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings
from tests.models.converters.official_models import (
    MODELS,
    PROMPTS,
    Conversion,
    OfficialModel,
    write_files,
)


@pytest.fixture
def official(request: pytest.FixtureRequest, tmp_path: Path) -> OfficialModel:
    """Official files that a test may break; the model is the test's parameter."""
    return write_files(request.param, tmp_path)


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conversion]:
    models = {}
    for name in MODELS:
        official = write_files(name, tmp_path_factory.mktemp(name))
        folder = official.convert()
        models[name] = Conversion(
            official, folder, load(ModelSpec(name, folder, PROMPTS[name]), folder, Settings(device="cpu"))
        )
    return models


@pytest.fixture(params=MODELS)
def conversion(request: pytest.FixtureRequest, conversions: dict[str, Conversion]) -> Conversion:
    return conversions[request.param]
