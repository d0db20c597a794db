"""Files that a test may break, and the models converted from whole ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.models.loading import load
from phasebench.models.named_models import ModelSpec
from tests.models.converters.given import MODELS, PROMPTS, Converted, Given, write_files


@pytest.fixture
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Given:
    """Official files that a test may break; the model is the test's parameter."""
    return write_files(request.param, tmp_path)


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Converted]:
    found = {}
    for name in MODELS:
        given = write_files(name, tmp_path_factory.mktemp(name))
        folder = given.convert()
        found[name] = Converted(
            given, folder, load(ModelSpec(name, folder, PROMPTS[name]), folder, device="cpu")
        )
    return found


@pytest.fixture(params=MODELS)
def converted(request: pytest.FixtureRequest, every: dict[str, Converted]) -> Converted:
    return every[request.param]
