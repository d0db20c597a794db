"""The hooks through which a project adds its own models, datasets, findings and outputs.

Implement them in a ``conftest.py`` or in a plugin::

    from pathlib import Path

    from phasebench import ModelSpec

    def pytest_phasebench_models(config):
        folder = Path(__file__).parent / "checkpoints" / "llava-ft"
        return [ModelSpec("our-llava", folder, "USER: <image>\\nASSISTANT:")]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from phasebench.datasets.named_datasets import DatasetSpec
    from phasebench.judge.findings.finding import Finding
    from phasebench.models.named_models import ModelSpec
    from phasebench.report.results import Results


@pytest.hookspec
def pytest_phasebench_models(config: pytest.Config) -> Sequence[ModelSpec]:  # type: ignore[empty-body]
    """Models that ``--model`` knows by name, beside the bundled ones."""


@pytest.hookspec
def pytest_phasebench_datasets(config: pytest.Config) -> Sequence[DatasetSpec]:  # type: ignore[empty-body]
    """Datasets that ``--dataset`` knows by name, beside the bundled ones."""


@pytest.hookspec
def pytest_phasebench_findings(config: pytest.Config) -> Sequence[Finding]:  # type: ignore[empty-body]
    """Claims to judge on every model and dataset, beside the paper's six."""


@pytest.hookspec
def pytest_phasebench_results(config: pytest.Config, results: Results) -> None:
    """Called with the run's results when the tables are printed and the outputs written.

    ``results.as_dict()`` is the content of the results file.
    """
