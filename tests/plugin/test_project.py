"""The folders of a project's own baselines and cases, whatever pytest's root folder is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phasebench.plugin.fixtures import _share_cores
from phasebench.plugin.project import baselines_folder, case_files
from phasebench.plugin.run import RUN
from phasebench.settings import BaselineMode
from tests.support.runs import DRIFT, FINDING, LATENCY, Run

UPDATING = BaselineMode(create=True, update=True)


def config(here: Path, root: Path, ini: Path | None = None, **option: Any) -> Any:
    """pytest's configuration: the current folder, its root folder, and the ini file if there is one."""
    options = {"inifilename": None, "rootdir": None, **option}
    return SimpleNamespace(
        invocation_params=SimpleNamespace(dir=here), rootpath=root, inipath=ini,
        option=SimpleNamespace(**options), getoption=lambda _: None, getini=lambda _: "",
    )  # fmt: skip


def test_baselines_lie_beside_an_ini_file(tmp_path: Path) -> None:
    ini = tmp_path / "pytest.ini"
    assert baselines_folder(config(tmp_path / "sub", tmp_path, ini), UPDATING) == tmp_path / "baselines"


def test_baselines_lie_in_the_current_folder_without_an_ini_file(tmp_path: Path) -> None:
    """The root may be the common parent of the cases and the current folder, far above both."""
    here = config(tmp_path / "sub", tmp_path)
    assert baselines_folder(here, UPDATING) == tmp_path / "sub" / "baselines"
    (tmp_path / "setup.py").touch()
    assert baselines_folder(here, UPDATING) == tmp_path / "baselines"


@pytest.mark.parametrize("option", [{"inifilename": "x/pytest.ini"}, {"rootdir": "x"}])
def test_a_root_set_by_an_option_is_the_projects(tmp_path: Path, option: dict[str, Any]) -> None:
    folder = baselines_folder(config(tmp_path / "sub", tmp_path / "x", **option), UPDATING)
    assert folder == tmp_path / "x" / "baselines"


@pytest.mark.parametrize(("models", "threads"), [(1, 8), (2, 4), (5, 2)])
def test_workers_without_a_model_get_no_cores(
    monkeypatch: pytest.MonkeyPatch, models: int, threads: int
) -> None:
    """One model under ``-n 4`` is measured on all cores."""
    limits: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", limits.append)
    stash: Any = pytest.Stash()
    stash[RUN] = SimpleNamespace(threads=8, models=dict.fromkeys("abcde"[:models]))
    worker: Any = SimpleNamespace(stash=stash, workerinput={"workercount": 4})
    _share_cores(worker)
    assert limits == ([threads] if threads < 8 else [])


def test_only_case_files_that_mention_phasebench_are_the_projects(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "test_ours.py").write_text("from phasebench import finding\n")
    (tmp_path / "cases" / "test_unrelated.py").write_text("def test_it(): pass\n")
    files = [Path(name) for name in case_files(config(tmp_path, tmp_path), with_hooks=False)]
    assert [path.name for path in files if path.is_relative_to(tmp_path)] == ["test_ours.py"]
    assert "test_own_findings.py" not in {path.name for path in files}
    assert "test_four_phases.py" in {path.name for path in files}


OWN_CASE = """
from phasebench import Condition, Evidence, Verdict, estimate, finding, verdict


@finding(claim="The total is above 0.", source="ours", needs=("total",))
def test_total_is_positive(evidence: Evidence) -> Verdict:
    last = estimate(evidence.curves, ("total",), lambda means: means["total"][..., -1])
    return verdict([Condition("last layer", last)], "")
"""


def test_a_finding_in_the_projects_cases_is_judged_like_the_papers(
    run: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "cases").mkdir()
    (pytester.path / "cases" / "test_total_is_positive.py").write_text(OWN_CASE)
    result = run("-m", "finding", "--snapshot-update")
    result.assert_outcomes(passed=FINDING + 1, deselected=DRIFT + LATENCY)
    result.stdout.fnmatch_lines(["total_is_positive *holds*"])
    folder = pytester.path / "baselines" / "tiny-llava" / "pics" / "verdicts"
    assert (folder / "total_is_positive.json").is_file()
    result = run("-m", "finding")
    result.assert_outcomes(passed=FINDING + 1, deselected=DRIFT + LATENCY)
