"""The models and datasets known by name: phasebench's own, and those of the user's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from phasebench.errors import InputError

if TYPE_CHECKING:
    import pytest

    from phasebench.datasets.named_datasets import DatasetSpec
    from phasebench.judge.findings.finding import Finding
    from phasebench.models.named_models import ModelSpec

Kind = TypeVar("Kind")


def models(config: pytest.Config) -> dict[str, ModelSpec]:
    """Every model that ``--model`` knows, by name; a user's model replaces ours of the same name."""
    from phasebench.models.named_models import ModelSpec, known_models

    own_specs = _specs_of_hook(config, "pytest_phasebench_models", ModelSpec)
    return {spec.name: spec for spec in (*known_models(), *own_specs)}


def datasets(config: pytest.Config) -> dict[str, DatasetSpec]:
    """Every dataset that ``--dataset`` knows, by name; a user's dataset replaces ours of the same name."""
    from phasebench.datasets.named_datasets import DatasetSpec, bundled_datasets, official_datasets

    option = config.option
    official_specs = official_datasets(option.data_dir, option.images, option.seed)
    own_specs = _specs_of_hook(config, "pytest_phasebench_datasets", DatasetSpec)
    return {spec.name: spec for spec in (*bundled_datasets(), *official_specs, *own_specs)}


def findings(config: pytest.Config) -> list[Finding]:
    """The findings of the user's hooks."""
    if not config.hook.pytest_phasebench_findings.get_hookimpls():
        return []  # do not import numpy for nothing
    from phasebench.judge.findings.finding import Finding

    return _specs_of_hook(config, "pytest_phasebench_findings", Finding)


def _specs_of_hook(config: pytest.Config, hook: str, kind: type[Kind]) -> list[Kind]:
    """The specs, or findings, that all implementations of a hook return.

    Raises:
        InputError: an implementation returns something other than a list of ``kind``.
    """
    batches = getattr(config.hook, hook)(config=config)
    for batch in batches:
        if not isinstance(batch, list | tuple) or not all(isinstance(spec, kind) for spec in batch):
            raise InputError(f"{hook}: should return a list of {kind.__name__}, not {batch!r:.80}")
    return [spec for batch in batches for spec in batch]
