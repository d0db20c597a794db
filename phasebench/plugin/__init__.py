"""The part of phasebench that is always loaded: one flag and the hook specifications.

The rest is registered only under ``--phasebench``. A project that merely has phasebench installed pays
nothing and keeps its own ``--model``.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Claim ``--phasebench`` and nothing else."""
    parser.getgroup("phasebench").addoption(
        "--phasebench",
        action="store_true",
        help="Measure models and judge the findings, drift and latency (see --phasebench --help).",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks even without the flag: a conftest.py may implement them in every run."""
    from phasebench.plugin import hookspec

    pluginmanager.add_hookspecs(hookspec)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Under ``--phasebench``, register the plugin; check options once conftest files have added theirs."""
    if not early_config.known_args_namespace.phasebench:
        return (yield)
    from phasebench.plugin.options import refuse_mistyped, same_option_message

    _register(early_config, parser, args)
    try:
        yield
    except ValueError as error:
        if message := same_option_message(error):
            raise pytest.UsageError(message) from error
        raise
    if not early_config.known_args_namespace.help:
        refuse_mistyped(parser, args)


def _register(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Add the other options and register the modules that do the work."""
    from phasebench.plugin import benchmarks, blocking, case_ids, fixtures, listing, ranks, reporter, session
    from phasebench.plugin.options import add_options
    from phasebench.plugin.required import check_plugins
    from phasebench.plugin.rootdir import settle_rootdir

    check_plugins(config)
    try:
        add_options(parser, html_taken=config.pluginmanager.has_plugin("html"))  # pytest-html's name
        parser.parse_known_args(args)  # before pytest 9.2 only this notices an option that is there twice
    except (ValueError, argparse.ArgumentError) as error:
        remedy = "another plugin has an option of that name; leave it out with -p no:NAME"
        raise pytest.UsageError(f"--phasebench: {error}: {remedy}") from error
    settle_rootdir(config, parser, args)
    for module in (ranks, session, case_ids, reporter, blocking, fixtures, benchmarks, listing):
        config.pluginmanager.register(module, module.__name__)
