"""The folders of the user's project: its baselines and its own cases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasebench.files import packaged_folder
from phasebench.settings import BaselineMode

CASE_FILES = "test_*.py"


def _project(config: pytest.Config) -> Path:
    """pytest's root folder if it is the project's, else the current folder.

    pytest's root is not the project's if the packaged cases are named by their path: then it is their folder,
    or a folder that contains both.
    """
    here, root = config.invocation_params.dir, config.rootpath
    if config.option.inifilename or config.option.rootdir:
        return root
    is_project = config.inipath is not None or (root / "setup.py").is_file()
    return root if is_project and here.is_relative_to(root) else here


def baselines_folder(config: pytest.Config, mode: BaselineMode) -> Path:
    """The folder that the option or the ini key names; else ``baselines`` in the project.

    Raises:
        pytest.UsageError: the named folder does not exist, and the run does not write baselines.
    """
    option, ini = config.getoption("phasebench_baselines"), config.getini("phasebench_baselines")
    if not option and not ini:
        return _project(config) / "baselines"
    parent = config.invocation_params.dir if option or config.inipath is None else config.inipath.parent
    folder = (parent / Path(str(option or ini)).expanduser()).resolve()
    if not folder.is_dir() and not mode.create:
        source = (
            f"--phasebench-baselines {option}" if option else f"{config.inipath}, phasebench_baselines {ini}"
        )
        raise pytest.UsageError(f"{source}: no such folder; --snapshot-update makes it")
    return folder


def check_writable(folder: Path) -> None:
    """Check that baselines can be written there.

    Raises:
        pytest.UsageError: they cannot.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        remedy = "name another folder with --phasebench-baselines"
        raise pytest.UsageError(f"--snapshot-update: {folder} cannot be written; {remedy}")


def case_files(config: pytest.Config, *, with_hooks: bool) -> list[str]:
    """The packaged case files, and those in the project's folder ``cases`` that mention phasebench.

    ``with_hooks`` includes the case that judges the findings of hooks.
    """
    packaged, own = packaged_folder("cases"), _project(config) / "cases"
    files = [
        path for path in sorted(packaged.glob(CASE_FILES)) if with_hooks or path.stem != "test_own_findings"
    ]
    if own.resolve() != packaged.resolve():
        files += [path for path in sorted(own.glob(CASE_FILES)) if b"phasebench" in path.read_bytes()]
    return [str(path) for path in files]
