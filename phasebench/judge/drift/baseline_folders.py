"""Where baselines lie: the project's own folder, and the packaged one behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Folders:
    """Where baselines are written, and where they are read if the first has none."""

    own: Path
    packaged: Path

    def find(self, relative: str) -> Path | None:
        """The file of this name, the project's own before the packaged one."""
        places = (self.own / relative, self.packaged / relative)
        return next((path for path in places if path.is_file()), None)

    def recorded(self) -> dict[str, list[str]]:
        """The datasets that each model has curves or verdicts of."""
        found: dict[str, set[str]] = {}
        for root in (self.packaged, self.own):
            for path in root.glob("*/*/**/*.json"):
                model, dataset, *_ = path.relative_to(root).parts
                found.setdefault(model, set()).add(dataset)
        return {model: sorted(found[model]) for model in sorted(found)}

    def judged(self, model: str) -> list[str]:
        """The datasets that verdicts on ``model`` are recorded for."""
        places = [path for root in (self.own, self.packaged) for path in root.glob(f"{model}/*/verdicts")]
        return sorted({path.parent.name for path in places})

    def stale(self, run_id: str, known: set[str]) -> list[Path]:
        """The project's own curve files of ``<model>/<dataset>`` under names that no curve has."""
        return sorted(path for path in (self.own / run_id).glob("*.json") if path.stem not in known)


FOLDERS = pytest.StashKey[Folders]()
RUN_ID = pytest.StashKey[str]()
"""On an item: the model and dataset that it is about, ``<model>/<dataset>``."""
BASELINE_ID = pytest.StashKey[str]()
"""On an item: those whose baselines it is compared with, the same but for ``--against``."""


def updating(config: pytest.Config) -> bool:
    """Whether what is not recorded, or under ``--snapshot-update`` what differs, is about to be written."""
    option = config.option
    return bool(option.update_snapshots or option.update_new_snapshots_only)


def _project(config: pytest.Config) -> Path:
    """pytest's root folder where something says that it is the project's, else the present folder.

    Naming the packaged cases by their path makes the root theirs, or what both lie in.
    """
    here, root = config.invocation_params.dir, config.rootpath
    if config.option.inifilename or config.option.rootdir:
        return root
    known = config.inipath is not None or (root / "setup.py").is_file()
    return root if known and here.is_relative_to(root) else here


def own_folder(config: pytest.Config) -> Path:
    """The folder that the option, the ini key or the checkout names; else ``baselines`` beside it.

    Raises:
        pytest.UsageError: the named folder is missing and nothing is about to be written into it.
    """
    option, ini = config.getoption("phasebench_baselines"), config.getini("phasebench_baselines")
    if not option and not ini:
        return _project(config) / "baselines"
    beside = config.invocation_params.dir if option or config.inipath is None else config.inipath.parent
    folder = (beside / str(option or ini)).resolve()
    if not folder.is_dir() and not updating(config):
        source = (
            f"--phasebench-baselines {option}" if option else f"{config.inipath}, phasebench_baselines {ini}"
        )
        raise pytest.UsageError(f"{source}: no such folder; --snapshot-update makes it")
    return folder
