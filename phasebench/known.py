"""The models and datasets known by name: phasebench's own, and those of the user's hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from phasebench.datasets.registry import DatasetSpec
    from phasebench.models.registry import ModelSpec


def models(config: pytest.Config) -> dict[str, ModelSpec]:
    """Every model that ``--model`` knows, by name; a user's comes in place of ours."""
    from phasebench.models.registry import known_models

    return _by_name(known_models(), config.hook.pytest_phasebench_models(config=config))


def datasets(config: pytest.Config) -> dict[str, DatasetSpec]:
    """Every dataset that ``--dataset`` knows, by name; a user's comes in place of ours."""
    from phasebench.datasets.registry import bundled_datasets, official_datasets

    option = config.option
    official = official_datasets(option.data_dir, option.images, option.seed)
    added = config.hook.pytest_phasebench_datasets(config=config)
    return _by_name([*bundled_datasets(), *official], added)


def _by_name(ours: Sequence[Any], added: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {spec.name: spec for spec in (*ours, *(spec for batch in added for spec in batch))}
