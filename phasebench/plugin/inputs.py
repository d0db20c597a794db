"""Checks that everything a run names exists, before any model is loaded.

A typing error must not cost an hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from phasebench.files import cache_folder
from phasebench.plugin.options import DEFAULT_EFFECT, usage
from phasebench.plugin.run import Run, run_of

if TYPE_CHECKING:
    from phasebench.datasets.selection import Selection
    from phasebench.models.named_models import ModelSpec
    from phasebench.settings import Settings


def check_inputs(config: pytest.Config) -> None:
    """Check that baselines, device, models and datasets exist.

    Raises:
        pytest.UsageError: something is missing; the message names the option and the way out.
    """
    run = run_of(config)
    _check_reference(run, config.option.effect)
    _check_devices(run.settings)
    _check_models(run.models.values(), run.settings)
    if not hasattr(config, "workerinput"):  # the controller has checked them
        for name in run.datasets:
            selection(config, name)


def _check_reference(run: Run, effect: float | None) -> None:
    """Check that the baselines to compare with exist; set the default effect of ``--against``."""
    against = run.against
    if effect is not None and not against:
        raise pytest.UsageError("--effect: only with --against NAME; a model's own curves may not differ")
    if against and run.mode.create:
        raise pytest.UsageError(f"--against {against}: nothing is recorded under another model's name")
    if against:
        _check_recorded(run, against)
        run.effect = DEFAULT_EFFECT if effect is None else effect
    with usage():
        _ = run.reference


def _check_recorded(run: Run, against: str) -> None:
    """Check that the model has baselines on every dataset of the run."""
    datasets_by_model = run.folders.datasets_by_model()
    missing = [name for name in run.datasets if name not in datasets_by_model.get(against, ())]
    if missing:
        recorded = "; ".join(f"{model} on {', '.join(names)}" for model, names in datasets_by_model.items())
        raise pytest.UsageError(
            f"--against {against}: no baselines of it on {', '.join(missing)}; "
            f"recorded: {recorded or 'nothing'}"
        )


def _check_devices(settings: Settings) -> None:
    """Check that the device and memory that are named exist; only then torch is imported."""
    if settings.device == "auto" and not settings.max_memory:
        return
    from phasebench.models.devices import parse_memory, pick_device

    with usage("--"):  # the messages begin with the setting's name
        pick_device(settings.device)
        if settings.max_memory:
            parse_memory(settings.max_memory)


def _check_models(models: Iterable[ModelSpec], settings: Settings) -> None:
    """Check that models of the hub and converted ones are available, and that folders are complete."""
    from phasebench.models.sources import check_available

    for spec in models:
        with usage(f"--model {spec.name}: "):
            check_available(spec, settings)


def selection(config: pytest.Config, name: str) -> Selection:
    """The samples drawn from a dataset, drawn once; every process draws the same from the same files."""
    from phasebench.datasets.named_datasets import read
    from phasebench.datasets.selection import select

    run = run_of(config)
    settings = run.settings
    if name not in run.selections:
        with usage(f"--dataset {name}: "):
            samples = read(run.datasets[name], cache_folder())
            drawn = select(samples, settings.images, settings.seed, strict=config.option.strict_data)
        run.selections[name] = drawn
    return run.selections[name]
