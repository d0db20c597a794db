"""The files that a run is asked to write: looked at before any work, written after it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasebench.errors import InputError
from phasebench.files import utf8, write_whole

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
    if option.results and option.html and option.results.resolve() == option.html.resolve():
        raise InputError(f"--html {option.html}: --results is written there; name another file")
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
    there = next(parent for parent in path.parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"{name} {path}: {there} is a file; name another folder")
    if not os.access(path if path.exists() else there, os.W_OK):
        raise InputError(f"{name} {path}: cannot be written; name another place")


def _check_installed(name: str) -> None:
    missing = [module for module in NEEDS.get(name, ()) if find_spec(module) is None]
    if missing:
        raise InputError(f"{name} needs {' and '.join(missing)}: pip install 'phasebench[report]'")


def write(option: Any, results: Results) -> Iterator[tuple[str, bool]]:
    """Write what was asked for; of each a line, and whether it is written.

    The numbers come first: nothing that draws can lose them.
    """
    for name, path, written in (
        ("--results", option.results, _results),
        ("--html", option.html, _report),
        ("--figures", option.figures, _figures),
    ):
        if path:
            try:
                yield written(path, results), True
            except OSError as error:
                yield f"{name} {path} could not be written: {error}", False


def _results(path: Path, results: Results) -> str:
    told = json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n"
    write_whole(path, told.encode())
    return f"results written to {path}"


def _report(path: Path, results: Results) -> str:
    from phasebench.report.html_page import page

    write_whole(path, utf8(page(results)))
    return f"report written to {path}"


def _figures(folder: Path, results: Results) -> str:
    from phasebench.report import matplotlib_figures

    return f"{matplotlib_figures.write(folder, results)} figures written to {folder}, as PNG and PDF"
