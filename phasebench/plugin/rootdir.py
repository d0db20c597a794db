"""Correct the root folder that pytest determines before it knows our options.

pytest takes the value of an unknown option for a path. ``--model /data/checkpoint`` would make
``/data/checkpoint`` the root folder: the project's ini file would be lost, ``.pytest_cache`` written into the
checkpoint, and the project's ``conftest.py`` not read. So the root is determined again after the options are
declared.
"""

from __future__ import annotations

from copy import copy

import pytest
from _pytest.config.findpaths import determine_setup


def settle_rootdir(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Determine root folder and ini file from the arguments that really are paths.

    ``args`` gets the ini file's ``addopts``, in place of those of the wrong one.
    """
    arguments = parser.parse_known_args(list(args))
    config.known_args_namespace.file_or_dir = arguments.file_or_dir  # their conftest.py files are read first
    root, ini, values, ignored = determine_setup(
        inifile=arguments.inifilename,
        override_ini=arguments.override_ini,
        args=arguments.file_or_dir,
        rootdir_cmd_arg=arguments.rootdir or None,
        invocation_dir=config.invocation_params.dir,
    )
    if root == config.rootpath and ini == config.inipath:
        return
    wrong_addopts = config.getini("addopts")
    # pytest has no public way to correct this; a test checks these attributes.
    config._rootpath, config._inipath, config._inicfg = root, ini, values
    config._ignored_config_files = ignored
    config._inicache.clear()
    _replace_addopts(config, parser, args, len(wrong_addopts))
    config.known_args_namespace.confcutdir = str(ini.parent if ini else root)


def _replace_addopts(config: pytest.Config, parser: pytest.Parser, args: list[str], count: int) -> None:
    """Put the ini file's ``addopts`` in place of the first ``count`` arguments, and load what they name."""
    addopts = config.getini("addopts")
    args[:count] = addopts
    config.pluginmanager.consider_preparse(addopts, exclude_only=False)
    config._configure_python_path()
    config.known_args_namespace = parser.parse_known_args(args, namespace=copy(config.option))
