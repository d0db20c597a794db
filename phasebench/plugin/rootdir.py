"""Undo what pytest makes of our options' values before it knows the options.

pytest takes the value of an option that it does not know yet for a path, so that
``--model /data/checkpoint`` would make ``/data/checkpoint`` the root folder: its ini file would be
lost, ``.pytest_cache`` written into the checkpoint, and the project's ``conftest.py`` not read. Once
the options are declared, the root is determined again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from _pytest.config.findpaths import determine_setup


def settle_rootdir(config: pytest.Config, parser: pytest.Parser, args: Sequence[str]) -> None:
    """Determine root folder and ini file from the arguments that really are paths."""
    known = parser.parse_known_args(list(args))
    config.known_args_namespace.file_or_dir = known.file_or_dir  # whose conftest.py files are read first
    root, ini, values, ignored = determine_setup(
        inifile=known.inifilename,
        override_ini=known.override_ini,
        args=known.file_or_dir,
        rootdir_cmd_arg=known.rootdir or None,
        invocation_dir=config.invocation_params.dir,
    )
    if root == config.rootpath and ini == config.inipath:
        return
    # pytest has no public way to correct itself here; a test holds these names.
    config._rootpath, config._inipath, config._inicfg = root, ini, values
    config._ignored_config_files = ignored
    config._inicache.clear()
    config.known_args_namespace.confcutdir = str(ini.parent if ini else root)
