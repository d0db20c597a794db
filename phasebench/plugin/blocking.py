"""Causes that keep all cases of a model, or of a model and dataset, from a result: each is reported once.

The first case fails with the message; the others are skipped because of it, so the exit code is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from phasebench.plugin.run import RUN, Run, parameters
from phasebench.settings import REMEDIES

BLOCKED = "because"
"""Beginning of the reason why a blocked case is skipped."""


@dataclass(frozen=True)
class Block:
    """A cause that blocks cases.

    Attributes:
        case: the id of the case that fails with it.
        reason: the cause in a few words, the reason why other cases are skipped.
    """

    case: str
    reason: str


def block(run: Run, key: str, reason: str) -> None:
    """Skip the other cases of ``key``, a model or ``<model>/<dataset>``: the case that runs now fails."""
    run.blocks.setdefault(key, Block(run.case, reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a case that is blocked; fail one that can have no baseline, before its model is loaded."""
    model, dataset = (parameters(item).get(name) for name in ("loaded", "measurement"))
    run = item.config.stash.get(RUN, None)
    if run is None or model is None:
        return
    run.case = item.nodeid
    for key in (model, f"{model}/{dataset}"):
        if key in run.blocks and run.blocks[key].case != item.nodeid:
            pytest.skip(f"{BLOCKED} {run.blocks[key].reason}")
    if dataset is not None and run.mode.strict and not run.mode.create and _needs_baseline(item):
        _fail_without_any_baseline(run, model, dataset)


def _needs_baseline(item: pytest.Item) -> bool:
    return "baseline" in getattr(item, "fixturenames", ())


def _fail_without_any_baseline(run: Run, model: str, dataset: str) -> None:
    """Fail the first case of a model and dataset of which nothing is recorded."""
    baseline_id = f"{run.against or model}/{dataset}"
    if run.folders.has(baseline_id):
        return
    reason = f"nothing is recorded for {baseline_id}"
    block(run, f"{model}/{dataset}", reason)
    folder = run.folders.own / baseline_id
    pytest.fail(f"{reason} (no {folder}); {REMEDIES['record']}", pytrace=False)
