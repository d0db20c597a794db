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
    """Every model that ``--model`` knows, by name; a user's comes in place of ours."""
    from phasebench.models.named_models import ModelSpec, known_models

    added = _given(config, "pytest_phasebench_models", ModelSpec)
    return {spec.name: spec for spec in (*known_models(), *added)}


def datasets(config: pytest.Config) -> dict[str, DatasetSpec]:
    """Every dataset that ``--dataset`` knows, by name; a user's comes in place of ours."""
    from phasebench.datasets.named_datasets import DatasetSpec, bundled_datasets, official_datasets

    option = config.option
    official = official_datasets(option.data_dir, option.images, option.seed)
    added = _given(config, "pytest_phasebench_datasets", DatasetSpec)
    return {spec.name: spec for spec in (*bundled_datasets(), *official, *added)}


def findings(config: pytest.Config) -> list[Finding]:
    """Those of the user's hooks."""
    if not config.hook.pytest_phasebench_findings.get_hookimpls():
        return []  # without pandas, which collecting need not wait for
    from phasebench.judge.findings.finding import Finding

    return _given(config, "pytest_phasebench_findings", Finding)


def _given(config: pytest.Config, hook: str, kind: type[Kind]) -> list[Kind]:
    """What the implementations of a hook give, together.

    Raises:
        InputError: one gives something else than a list of ``kind``.
    """
    batches = getattr(config.hook, hook)(config=config)
    for batch in batches:
        if not isinstance(batch, list | tuple) or not all(isinstance(one, kind) for one in batch):
            raise InputError(f"{hook}: should give a list of {kind.__name__}, not {batch!r:.80}")
    return [one for batch in batches for one in batch]
