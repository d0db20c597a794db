"""The walls of the house: who may import what, and what an installed phasebench costs others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "phasebench"


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions; not what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def offenders(folder: str, *forbidden: str) -> dict[str, set[str]]:
    found = {}
    for path in (PACKAGE / folder).rglob("*.py"):
        bad = {name for name in imported(path) if any(f"{name}.".startswith(f"{f}.") for f in forbidden)}
        if bad:
            found[str(path.relative_to(ROOT))] = bad
    return found


@pytest.mark.parametrize("folder", ["judge", "report"])
def test_judging_and_reporting_know_no_torch(folder: str) -> None:
    assert not offenders(folder, "torch", "transformers", "phasebench.measure", "phasebench.models")


def test_measuring_knows_neither_pytest_nor_statistics() -> None:
    assert not offenders(
        "measure", "pytest", "_pytest", "syrupy", "scipy", "phasebench.judge", "phasebench.report"
    )


@pytest.mark.parametrize("folder", ["models", "datasets"])
def test_models_and_datasets_know_nothing_above_them(folder: str) -> None:
    above = [
        f"phasebench.{name}" for name in ("measure", "judge", "report", "session", "fixtures", "collector")
    ]
    assert not offenders(folder, "pytest", *above)


def test_datasets_know_no_torch() -> None:
    assert not offenders("datasets", "torch", "transformers", "phasebench.models")


def test_nothing_imports_the_session_but_the_plugin_and_its_fixtures() -> None:
    users = {Path(path).name for path in offenders(".", "phasebench.session")}
    assert users == {"plugin.py", "fixtures.py", "comparison.py"}


def test_curves_know_nothing_of_the_house() -> None:
    assert not any(name.startswith("phasebench") for name in imported(PACKAGE / "curves.py"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


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
