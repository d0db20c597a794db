"""The published files: a wheel that works alone in an empty folder, and the source distribution of it."""

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
IGNORED_FOLDERS = {"__pycache__"}

pytestmark = pytest.mark.slow


def command(*args: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command; a failure shows it."""
    words, env = [str(arg) for arg in args], environment or None
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution and the wheel built from it."""
    clone, dist = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    names = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    command(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=clone)
    return dist


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel; its dependencies are those of the tests' environment."""
    folder = tmp_path_factory.mktemp("env")
    command(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    command(sys.executable, *install, cwd=folder)
    site = command(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(site) / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_both_distributions_pass_the_checks_of_twine_and_of_wheels(distributions: Path, wheel: Path) -> None:
    command(sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir(), cwd=distributions)
    command(sys.executable, "-m", "check_wheel_contents", wheel, cwd=ROOT)  # settings: pyproject.toml


def test_the_wheel_has_every_module_and_every_piece_of_data(wheel: Path) -> None:
    packed_names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    names = {name for name in tracked if name.startswith("phasebench/") and (ROOT / name).is_file()}
    names |= {f"phasebench/{name}" for name in tracked if name.startswith("cases/")}
    names |= {f"phasebench/{name}" for name in tracked if re.match(r"baselines/.*\.json", name)}
    assert packed_names == names
    assert "phasebench/py.typed" in packed_names


def test_the_source_distribution_has_tests_and_documentation(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "phasebench/plugin/__init__.py"} <= names
    tracked = command("git", "ls-files", "tests", "docs", "conftest.py", "Makefile", cwd=ROOT).splitlines()
    assert {name for name in tracked if (ROOT / name).is_file()} <= names


def test_the_metadata_are_right(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    metadata = archive.read(name).decode()
    assert "\nRequires-Python: >=3.10\n" in metadata
    versions = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", metadata, re.M)
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "[pytest11]\nphasebench.plugin = phasebench.plugin\n" in archive.read(entries).decode()


def files(folder: Path) -> dict[Path, int]:
    """Every file in a folder and its subfolders, with the time of its last change."""
    paths = (path for path in folder.rglob("*") if not IGNORED_FOLDERS & set(path.parts))
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


PHASEBENCH = ("-m", "pytest", "--phasebench", "--model", "tiny-llava", "--images", "4")


def test_the_wheel_works_in_an_empty_folder_and_writes_only_there(environment: Path, tmp_path: Path) -> None:
    files_before = files(environment.parents[1])
    here, home, temporary = (tmp_path / name for name in ("here", "home", "temporary"))
    for folder in (here, home, temporary):
        folder.mkdir()
    variables = {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    path = command(environment, "-c", "import phasebench; print(phasebench.__file__)", cwd=here, **variables)
    assert Path(path).is_relative_to(environment.parents[1])
    output = command(environment, *PHASEBENCH, "--snapshot-update", "-rP", cwd=here, **variables)
    assert "Loading weights" not in output  # a captured progress bar would fill the first failure
    assert "[transformers]" not in output
    command(
        environment, *PHASEBENCH, "--dataset", "photos", "--results", "results.json", cwd=here, **variables
    )
    own_names = {"baselines", "results.json"}
    assert {path.name for path in here.iterdir()} - {".benchmarks", ".pytest_cache"} == own_names
    datasets = {path.name for path in (here / "baselines" / "tiny-llava").iterdir()}
    assert datasets == {"photos", "scene-pairs", "scenes"}
    assert {str(path.relative_to(home)) for path in home.glob("*/*")} == {".cache/phasebench"}
    assert not files(temporary)
    assert files(environment.parents[1]) == files_before


CONSUMER = """
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import phasebench
from phasebench import (
    Condition, Curves, DatasetSpec, Evidence, Finding, ModelSpec, Sample, Verdict, estimate, verdict,
)


def measure_pictures(model: object, processor: object) -> Curves:
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
WRONG_TYPES = """
import phasebench

phasebench.load_results("results.json", "heatmap")
curves: int = phasebench.measure(None, None, [])
"""


def test_a_consumers_file_is_strictly_typed(environment: Path, tmp_path: Path) -> None:
    """One file has no error, the other has the two that it was given."""
    for name, text in (("consumer", CONSUMER), ("wrong", WRONG_TYPES)):
        (tmp_path / f"{name}.py").write_text(text)
    # Public names have no types of torch and transformers, which take a minute to read.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\n[mypy-torch.*,transformers.*]\nfollow_imports = skip\n")
    options = (
        "--strict", "--config-file", settings, "--python-executable", environment,
        "--cache-dir", tmp_path / "mypy", "consumer.py", "wrong.py",
    )  # fmt: skip
    command = [sys.executable, "-m", "mypy", *map(str, options)]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    errors = [line for line in output.splitlines() if ": error:" in line]
    assert [line.partition(":")[0] for line in errors] == ["wrong.py", "wrong.py"], output
    assert "[arg-type]" in errors[0]
    assert 'variable has type "int"' in errors[1]
