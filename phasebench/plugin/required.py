"""Checks that plugins that phasebench needs are there, and that the project replaces no fixture of ours."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from phasebench.files import packaged_folder

SYRUPY = "syrupy"
FIXTURES = {"loaded": "phasebench", "measurement": "phasebench", "snapshot": "syrupy"}
"""Fixture that the cases need -> the package that must define it."""


def check_plugins(config: pytest.Config) -> None:
    """Load syrupy if plugins are not loaded by themselves.

    Raises:
        pytest.UsageError: it is switched off.
    """
    manager = config.pluginmanager
    if manager.is_blocked(SYRUPY):
        raise pytest.UsageError("phasebench compares its baselines with syrupy; leave out -p no:syrupy")
    if not manager.has_plugin(SYRUPY):
        manager.import_plugin(SYRUPY)


def check_fixtures(items: Iterable[pytest.Item]) -> None:
    """Check that the packaged cases get phasebench's own fixtures.

    Raises:
        pytest.UsageError: a conftest.py of the project replaces one; the message names both.
    """
    cases = (item for item in items if item.path.parent == packaged_folder("cases"))
    definitions = getattr(next(cases, None), "_fixtureinfo", None)
    if definitions is None:
        return
    for name, package in FIXTURES.items():
        for definition in definitions.name2fixturedefs.get(name, ())[-1:]:
            if definition.func.__module__.partition(".")[0] != package:
                source = definition.func.__code__.co_filename
                raise pytest.UsageError(
                    f"{source}: its fixture {name!r} replaces the one of {package} that phasebench's cases "
                    "need; rename it, or run phasebench in a folder of its own"
                )
