"""Where a project's own baselines lie, whatever pytest takes for its root folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phasebench.judge.drift.baseline_folders import own_folder
from phasebench.plugin.fixtures import THREADS, _share_cores
from phasebench.plugin.session import MODELS


def config(here: Path, root: Path, ini: Path | None = None, **option: Any) -> Any:
    """What pytest settled on: the present folder, its root folder, and the ini file if there is one."""
    options = {"inifilename": None, "rootdir": None, "update_snapshots": True, **option}
    return SimpleNamespace(
        invocation_params=SimpleNamespace(dir=here), rootpath=root, inipath=ini,
        option=SimpleNamespace(**options), getoption=lambda _: None, getini=lambda _: "",
    )  # fmt: skip


def test_below_an_ini_file_they_lie_beside_it(tmp_path: Path) -> None:
    ini = tmp_path / "pytest.ini"
    assert own_folder(config(tmp_path / "sub", tmp_path, ini)) == tmp_path / "baselines"


def test_without_one_they_lie_in_the_present_folder(tmp_path: Path) -> None:
    """The root may be what the named cases and the present folder have in common, far above both."""
    assert own_folder(config(tmp_path / "sub", tmp_path)) == tmp_path / "sub" / "baselines"
    (tmp_path / "setup.py").touch()
    assert own_folder(config(tmp_path / "sub", tmp_path)) == tmp_path / "baselines"


@pytest.mark.parametrize("named", [{"inifilename": "x/pytest.ini"}, {"rootdir": "x"}])
def test_a_root_that_was_named_is_the_projects(tmp_path: Path, named: dict[str, Any]) -> None:
    found = own_folder(config(tmp_path / "elsewhere", tmp_path / "x", **named))
    assert found == tmp_path / "x" / "baselines"


@pytest.mark.parametrize(("models", "threads"), [(1, 8), (2, 4), (5, 2)])
def test_workers_without_a_model_take_no_cores(
    monkeypatch: pytest.MonkeyPatch, models: int, threads: int
) -> None:
    """One model under ``-n 4`` is measured on all of them."""
    given: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    stash: Any = pytest.Stash()
    stash[THREADS], stash[MODELS] = 8, dict.fromkeys("abcde"[:models])
    made: Any = SimpleNamespace(stash=stash, workerinput={"workercount": 4})
    _share_cores(made)
    assert given == ([threads] if threads < 8 else [])
