"""The names of rows and of their folder: they follow all that decides a row's numbers, and nothing else."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from phasebench.datasets.sample import Sample
from phasebench.measurement.row_key import (
    DECIDING,
    NEUTRAL,
    digest_of_modules,
    measuring_code,
    model_code,
    row_names,
)
from phasebench.models.loading import LoadedModel
from tests.support.imports import imported_names
from tests.support.paths import ROOT

PACKAGE = ROOT / "phasebench"
ROOTS = ("phasebench.measurement.passes", "phasebench.measurement.controls", "phasebench.measurement.packing")
"""Where rows are made: the plain way, with something changed, and as bytes."""


def source_of_module(name: str) -> Path | None:
    """The file of a module or package of phasebench; None if there is no such module."""
    path = ROOT.joinpath(*name.split("."))
    files = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in files if file.is_file()), None)


def imports_of_module(name: str) -> set[str]:
    """The modules of phasebench that a module imports, also inside functions; not for type checkers only."""
    source = source_of_module(name)
    assert source is not None, name
    modules = {imported for imported in imported_names(source) if imported.startswith("phasebench.")}
    modules = {module for module in modules if source_of_module(module)}
    packages = {module.rpartition(".")[0] for module in modules}  # a module was imported from it, not itself
    return modules - packages


def is_deciding(name: str) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in DECIDING)


def reachable_modules() -> set[str]:
    """All modules that making a row imports; the imports of a neutral module decide nothing through it."""
    reachable, waiting = set[str](), list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in reachable:
            reachable.add(name)
            waiting += [] if name in NEUTRAL and not is_deciding(name) else imports_of_module(name)
    return reachable


def test_every_module_that_making_a_row_imports_is_declared() -> None:
    assert {name for name in reachable_modules() if name not in NEUTRAL and not is_deciding(name)} == set()


def test_no_declared_module_is_superfluous() -> None:
    reachable = reachable_modules()
    assert {name for name in NEUTRAL if name not in reachable} == set()
    assert {
        module for module in DECIDING if not any(f"{name}.".startswith(f"{module}.") for name in reachable)
    } == set()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of phasebench's code."""
    copy = tmp_path / "phasebench"
    shutil.copytree(PACKAGE, copy, ignore=lambda folder, names: [n for n in names if is_no_code(folder, n)])
    return copy


def is_no_code(folder: str, name: str) -> bool:
    return name == "__pycache__" or not (Path(folder, name).is_dir() or name.endswith(".py"))


@pytest.mark.parametrize(
    "name", ["models/named_models.py", "datasets/sample.py", "catalog.py", "judge/statistics.py"]
)
def test_code_that_decides_no_number_does_not_change_the_key(package: Path, name: str) -> None:
    assert digest_of_modules(package) == measuring_code()
    path = package / name
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert digest_of_modules(package) == measuring_code()


@pytest.mark.parametrize("name", ["measurement/probe.py", "measurement/lens.py", "models/anatomy/parts.py"])
def test_code_that_decides_numbers_changes_the_key(package: Path, name: str) -> None:
    path = package / name
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert digest_of_modules(package) != measuring_code()


def test_every_deciding_module_changes_the_key(package: Path) -> None:
    digests = {digest_of_modules(package)}
    for module in DECIDING:
        path = package.joinpath(*module.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        digests.add(digest_of_modules(package))
    assert len(digests) == len(DECIDING) + 1


def test_row_names_follow_everything_that_enters_the_model(
    tiny_llava: LoadedModel, samples: list[Sample]
) -> None:
    first, second = (tiny_llava.inputs([sample.open()]) for sample in samples[:2])
    changed = {**first, "input_ids": first["input_ids"].clone()}
    changed["input_ids"][0, -1] += 1
    both = tiny_llava.inputs([sample.open() for sample in samples[:2]])
    batches = [
        row_names("", first),
        row_names("", second),
        row_names("", changed),
        row_names("text", first),
        row_names("", both),
    ]
    assert len({name for names in batches for name in names}) == 6
    assert row_names("", first) == row_names("", {key: first[key].clone() for key in reversed(list(first))})


def test_tensors_of_other_types_and_shapes_have_other_names() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    tensors = (
        torch.zeros(2, 2),
        torch.zeros(4),
        torch.zeros(4, dtype=torch.bfloat16),
        torch.tensor(0.0),
    )
    names = [row_names("", {"input_ids": ids, "x": tensor}) for tensor in tensors]
    assert len({name for (name,) in names}) == 4


def test_a_models_code_that_changes_under_one_version_changes_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llava: LoadedModel
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_code_of_a_model.py"
    path.write_text("import torch\n\nclass Own(torch.nn.Linear):\n    pass\n")
    model = nn.Sequential(importlib.import_module(path.stem).Own(2, 2), nn.Linear(2, 2))
    before = model_code(model)
    assert model_code(model) == before != model_code(nn.Linear(2, 2))
    path.write_text(path.read_text() + "# changed\n")
    assert model_code(model) != before
    assert model_code(tiny_llava.model) != model_code(nn.Linear(2, 2))
