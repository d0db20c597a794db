"""What is published: a wheel that works alone in an empty folder, and a source distribution that makes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_PACKED = {"__pycache__"}

pytestmark = pytest.mark.slow


def command(*args: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; an assertion with it where it fails."""
    asked, env = [str(arg) for arg in args], environment or None
    done = subprocess.run(asked, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution and the wheel that was made from it."""
    clone, dist = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    listed = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.splitlines()):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    command(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=clone)
    return dist


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel in it; what the wheel depends on is that of the tests."""
    folder = tmp_path_factory.mktemp("env")
    command(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    command(sys.executable, *install, cwd=folder)
    site = command(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(site) / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_both_pass_the_checks_of_twine_and_of_wheels(built: Path, wheel: Path) -> None:
    command(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    command(sys.executable, "-m", "check_wheel_contents", wheel, cwd=ROOT)  # settings: pyproject.toml


def test_the_wheel_has_every_module_and_every_piece_of_data(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    wanted = {name for name in tracked if name.startswith("phasebench/") and (ROOT / name).is_file()}
    wanted |= {f"phasebench/{name}" for name in tracked if name.startswith("cases/")}
    wanted |= {f"phasebench/{name}" for name in tracked if re.match(r"baselines/.*\.json", name)}
    assert packed == wanted
    assert "phasebench/py.typed" in packed


def test_the_source_has_what_a_packager_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "phasebench/plugin.py"} <= names
    tracked = command("git", "ls-files", "tests", "docs", "conftest.py", "Makefile", cwd=ROOT).splitlines()
    assert {name for name in tracked if (ROOT / name).is_file()} <= names


def test_the_metadata_are_true(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    told = archive.read(name).decode()
    assert "\nRequires-Python: >=3.10\n" in told
    versions = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", told, re.M)
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "[pytest11]\nphasebench.plugin = phasebench.plugin\n" in archive.read(entries).decode()


def files(folder: Path) -> dict[Path, int]:
    """Every file below a folder with the time of its last change."""
    paths = (path for path in folder.rglob("*") if not NOT_PACKED & set(path.parts))
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


OURS = ("-m", "pytest", "--phasebench", "--model", "tiny-llava", "--images", "4")


def test_it_works_in_an_empty_folder_and_writes_only_there(environment: Path, tmp_path: Path) -> None:
    installed = files(environment.parents[1])
    here, home, temporary = (tmp_path / name for name in ("here", "home", "temporary"))
    for folder in (here, home, temporary):
        folder.mkdir()
    told = {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    where = command(environment, "-c", "import phasebench; print(phasebench.__file__)", cwd=here, **told)
    assert Path(where).is_relative_to(environment.parents[1])
    shown = command(environment, *OURS, "--snapshot-update", "-rP", cwd=here, **told)
    assert "Loading weights" not in shown  # captured, a bar would fill the first failure
    assert "[transformers]" not in shown
    command(environment, *OURS, "--results", "results.json", cwd=here, **told)
    own = {"baselines", "results.json"}
    assert {path.name for path in here.iterdir()} - {".benchmarks", ".pytest_cache"} == own
    recorded = {path.name for path in (here / "baselines" / "tiny-llava").iterdir()}
    assert recorded == {"photos", "scene-pairs", "scenes"}
    assert {str(path.relative_to(home)) for path in home.glob("*/*")} == {".cache/phasebench"}
    assert not files(temporary)
    assert files(environment.parents[1]) == installed


CONSUMER = """
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import phasebench
from phasebench import (
    Condition, Curves, DatasetSpec, Evidence, Finding, ModelSpec, Sample, Verdict, estimate, verdict,
)


def measured(model: object, processor: object) -> Curves:
    return phasebench.measure(model, processor, ["a.png", Path("b.png")], ["a dog", ["a cat", "two cats"]])


def table() -> pd.DataFrame:
    return phasebench.load_results("results.json", "findings")


def judge(evidence: Evidence) -> Verdict:
    last = estimate(evidence.curves, ("total",), lambda means: means["total"][..., -1])
    return verdict([Condition("last", last)], phasebench.__version__)


def pytest_phasebench_models(config: pytest.Config) -> Sequence[ModelSpec]:
    return [ModelSpec("ours", Path("folder"))]


def pytest_phasebench_datasets(config: pytest.Config) -> Sequence[DatasetSpec]:
    return [DatasetSpec("ours", lambda cache: [Sample("a", cache / "a.png", ("a dog",), "a")])]


def pytest_phasebench_findings(config: pytest.Config) -> Sequence[Finding]:
    return [Finding("ours", "It is so.", "here", judge)]
"""
WRONG = """
import phasebench

phasebench.load_results("results.json", "heatmap")
curves: int = phasebench.measure(None, None, [])
"""


def checked(environment: Path, tmp_path: Path, text: str) -> str:
    """What mypy says, strictly, of a consumer's file."""
    path = tmp_path / "consumer.py"
    path.write_text(text)
    settings = tmp_path / "mypy.ini"  # no public name shows a type of these, which take a minute to read
    settings.write_text("[mypy]\n[mypy-torch.*,transformers.*]\nfollow_imports = skip\n")
    asked = (
        "--strict", "--config-file", settings, "--python-executable", environment,
        "--cache-dir", tmp_path / "mypy", path,
    )  # fmt: skip
    command = [sys.executable, "-m", "mypy", *map(str, asked)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout


def test_a_consumers_file_is_strictly_typed(environment: Path, tmp_path: Path) -> None:
    assert checked(environment, tmp_path, CONSUMER) == "Success: no issues found in 1 source file\n"
    told = checked(environment, tmp_path, WRONG)
    assert "[arg-type]" in told
    assert 'variable has type "int"' in told
