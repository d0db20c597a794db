"""The walls of the house: who may import what, and what an installed phasebench costs others."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.imports import imported_names
from tests.support.paths import ROOT

PACKAGE = ROOT / "phasebench"


def offenders(folder: str, *forbidden: str) -> dict[str, set[str]]:
    found = {}
    for path in (PACKAGE / folder).rglob("*.py"):
        bad = {
            name for name in imported_names(path) if any(f"{name}.".startswith(f"{f}.") for f in forbidden)
        }
        if bad:
            found[str(path.relative_to(ROOT))] = bad
    return found


FLOORS = (
    {"errors", "files", "processes", "settings", "version", "curves", "catalog"},
    {"datasets"},
    {"models"},
    {"measurement", "judge"},
    {"report"},
    {"api", "commands"},
    {"plugin"},
    {"__init__", "__main__"},
)
"""Packages and root modules, from the ground up: none imports one of its own floor or of a higher one."""
FOUNDATIONS = FLOORS[0]
MODULES = sorted(PACKAGE.rglob("*.py"))


def wing(path: Path) -> str:
    """The package, or the root module, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_no_import_runs_upward() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        for name in sorted(imported_names(path))
        if name.startswith("phasebench.") and (above := name.split(".")[1]) != wing(path)
        if not (wing(path) in FOUNDATIONS and above in FOUNDATIONS)
        if above in floor and floor[above] >= floor[wing(path)]
    ]
    assert upward == []


def test_every_module_stands_on_a_floor() -> None:
    assert {wing(path) for path in MODULES} == set().union(*FLOORS)


def test_the_root_holds_at_most_ten_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10


@pytest.mark.parametrize("folder", ["judge", "report", "datasets"])
def test_arithmetic_and_data_know_no_torch(folder: str) -> None:
    assert not offenders(folder, "torch", "transformers", "phasebench.models")


@pytest.mark.parametrize("folder", ["judge", "measurement", "models", "datasets", "commands"])
def test_nothing_below_the_plugin_knows_pytest(folder: str) -> None:
    assert not offenders(folder, "pytest", "_pytest", "syrupy")


def test_measuring_knows_no_statistics() -> None:
    assert not offenders("measurement", "scipy")


@pytest.mark.parametrize(("folder", "other"), [("findings", "drift"), ("drift", "findings")])
def test_findings_and_drift_share_statistics_alone(folder: str, other: str) -> None:
    assert not offenders(f"judge/{folder}", f"phasebench.judge.{other}")


def test_no_package_is_callable() -> None:
    import phasebench

    packages = [name for _, name, is_package in pkgutil.walk_packages(phasebench.__path__) if is_package]
    assert packages
    assert not any(callable(getattr(phasebench, name, None)) for name in packages)


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem for path in MODULES if path.name != "__init__.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def loaded_modules(tmp_path: Path, *args: str) -> set[str]:
    """The top-level modules that a pytest run in an empty project ends with."""
    (tmp_path / "test_x.py").write_text("def test_x(): pass\n")
    script = (
        "import sys, pytest\n"
        f"code = pytest.main(['-q', '-p', 'no:cacheprovider', *{list(args)!r}])\n"
        "print('MODULES', int(code), *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    code, *names = line.split()[1:]
    assert code == "0", done.stdout
    return set(names)


HEAVY = {"torch", "transformers", "numpy", "pandas", "rich", "scipy", "PIL"}


def test_an_installed_phasebench_imports_nothing_heavy(tmp_path: Path) -> None:
    names = loaded_modules(tmp_path)
    assert "phasebench" in names
    assert not names & HEAVY


def test_collecting_needs_no_torch(tmp_path: Path) -> None:
    assert not loaded_modules(tmp_path, "--phasebench", "--collect-only") & {
        "torch",
        "transformers",
        "pandas",
    }
