"""Ids of the packaged cases: ``cases/test_drift.py::test_drift[...]`` in any folder, and accepted there.

pytest names a file outside the project's folder by nothing at all, so that its ids could not be run again and
JUnit's ``classname`` would be empty.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from phasebench.files import packaged_folder

FOLDER = "cases"


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Name a packaged case file outside the project's folder ``cases/<file>``, or else by its path."""
    config = parent.config
    if module_path.parent != packaged_folder(FOLDER) or module_path.is_relative_to(config.rootpath):
        return None
    short = f"{FOLDER}/{module_path.name}"
    is_taken = any((folder / short).exists() for folder in (config.rootpath, config.invocation_params.dir))
    from_parent: Any = pytest.Module.from_parent  # its type depends on pytest's version
    module: pytest.Module = from_parent(
        parent, path=module_path, nodeid=str(module_path) if is_taken else short
    )
    return module


def packaged_path(argument: str, folder: Path) -> str:
    """The argument with the path of the packaged case file that it names; unchanged if it names another file.

    Args:
        argument: a file, or the id of a case.
        folder: the folder that relative paths start from.
    """
    path, separator, rest = argument.partition("::")
    packaged = packaged_folder(FOLDER) / Path(path).name
    names_packaged = Path(path).parent.name == FOLDER and packaged.is_file()
    if (folder / path).exists() or not names_packaged:
        return argument
    return f"{packaged}{separator}{rest}"


def runnable_id(config: pytest.Config, nodeid: str) -> str:
    """The id as an argument in the folder in which pytest was started."""
    path, separator, rest = nodeid.partition("::")
    if not (config.rootpath / path).exists():
        return nodeid  # a packaged case
    here = config.invocation_params.dir
    relative = path if here == config.rootpath else os.path.relpath(config.rootpath / path, here)
    return f"{relative}{separator}{rest}"
