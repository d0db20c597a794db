"""The files that a run is asked to write: looked at before any work, written after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasebench.errors import InputError
from phasebench.files import write_whole

if TYPE_CHECKING:
    from phasebench.report.results import Results

NEEDS = {"--html": ("plotly", "jinja2"), "--figures": ("matplotlib",)}
"""What the extra ``report`` brings, by option."""


def check(option: Any) -> None:
    """See that each target can be written and that what draws it is installed.

    Raises:
        InputError: it is not so; the message names the option and the fix.
    """
    for name, path in (("--results", option.results), ("--html", option.html)):
        if path:
            _check_file(name, path)
            _check_installed(name)
    if option.store:
        _check_folder("--store", option.store)
    if option.figures:
        _check_folder("--figures", option.figures)
        _check_parents("--figures", option.figures)
        _check_installed("--figures")


def _check_file(name: str, path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{name} {path}: is a folder; name a file")
    _check_parents(name, path)


def _check_folder(name: str, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{name} {path}: is a file; name a folder")


def _check_parents(name: str, path: Path) -> None:
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise InputError(f"{name} {path}: {parent} is a file; name another folder")
            return


def _check_installed(name: str) -> None:
    missing = [module for module in NEEDS.get(name, ()) if find_spec(module) is None]
    if missing:
        raise InputError(f"{name} needs {' and '.join(missing)}: pip install 'phasebench[report]'")


def write(option: Any, results: Results) -> Iterator[str]:
    """Write what was asked for; a line for each. The numbers come first: nothing that draws can lose them."""
    if option.results:
        told = json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n"
        write_whole(option.results, told.encode())
        yield f"results written to {option.results}"
    if option.html:
        from phasebench.report.page import page

        write_whole(option.html, page(results).encode())
        yield f"report written to {option.html}"
    if option.figures:
        from phasebench.report import paper

        yield f"{paper.write(option.figures, results)} figures written to {option.figures}, as PNG and PDF"
