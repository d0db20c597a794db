"""The outputs of a run, one row each in ``OUTPUTS``: checked before any work, written after it.

An option or an environment variable requests an output. To add an output, add a row to ``OUTPUTS``; a project
adds its own outputs with the hook ``pytest_phasebench_results``. ``CASE_PROPERTIES`` makes the JUnit
properties of single cases.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasebench.errors import InputError
from phasebench.files import utf8, write_whole
from phasebench.report.entries import Entry
from phasebench.report.entry_forms import junit_properties

if TYPE_CHECKING:
    from phasebench.report.results import Results

NOTHING = "phasebench: nothing was measured or compared"


def _write_results(path: Path, results: Results) -> Iterator[str]:
    text = json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n"
    write_whole(path, text.encode())
    yield f"phasebench: results written to {path}"


def _write_html(path: Path, results: Results) -> Iterator[str]:
    from phasebench.report.html_page import page

    write_whole(path, utf8(page(results)))
    yield f"phasebench: report written to {path}"


def _write_figures(folder: Path, results: Results) -> Iterator[str]:
    from phasebench.report import matplotlib_figures

    count = matplotlib_figures.write(folder, results)
    yield f"phasebench: {count} figures written to {folder}, as PNG and PDF"


def _append_summary(path: Path, results: Results) -> Iterator[str]:
    """Append to the summary of a GitHub step, because other runs of the step may have written to it."""
    from phasebench.report.github import summary

    with path.open("a", encoding="utf-8") as file:
        file.write(summary(results) or f"{NOTHING}\n")
    yield "phasebench: summary written for the GitHub step"


def _print_annotations(_: Path, results: Results) -> Iterator[str]:
    """The ``::error`` lines; GitHub reads them from the log, so the path is not used."""
    from phasebench.report.github import error_lines

    yield from error_lines(results.failures)


@dataclass(frozen=True)
class Output:
    """One kind of output of a run.

    Attributes:
        name: the option or the environment variable that requests it; its value is the path to write to.
        write: a function that writes the results to a path and yields lines for the terminal.
        help: the option's help text; empty for a variable.
        folder: whether the path is a folder.
        modules: the modules of the extra ``report`` that it needs.
        value: the only value of the variable that requests it; empty if any value does.
    """

    name: str
    write: Callable[[Path, Results], Iterator[str]]
    help: str = ""
    folder: bool = False
    modules: tuple[str, ...] = ()
    value: str = ""

    @property
    def is_option(self) -> bool:
        """Whether an option requests it."""
        return self.name.startswith("--")

    @property
    def dest(self) -> str:
        """The option's attribute in the parsed options."""
        return self.name.removeprefix("--")

    def target(self, option: Any, environment: Mapping[str, str]) -> Path | None:
        """The path to write to; None if the output is not requested."""
        if self.is_option:
            return getattr(option, self.dest, None)
        value = environment.get(self.name, "")
        return Path(value) if value and self.value in ("", value) else None


OUTPUTS = (
    # The numbers are written first, so that an error in drawing cannot lose them.
    Output("--results", _write_results, "Write curves, verdicts, drift and timing as JSON."),
    Output(
        "--html", _write_html, "Write a report with figures, one file that opens offline "
        "(needs phasebench[report]).", modules=("plotly", "jinja2"),
    ),
    Output(
        "--figures", _write_figures, "Write the report's figures as PNG and PDF (needs phasebench[report]).",
        folder=True, modules=("matplotlib",),
    ),
    Output("GITHUB_STEP_SUMMARY", _append_summary),
    Output("GITHUB_ACTIONS", _print_annotations, value="true"),
)  # fmt: skip


CASE_PROPERTIES: tuple[Callable[[Entry], list[tuple[str, str | int | float]]], ...] = (junit_properties,)
"""Each gives the properties that an entry adds to its case; JUnit's report shows them."""


def write(option: Any, results: Results) -> Iterator[tuple[str, bool]]:
    """Write all requested outputs; those of options not if the run was interrupted before any result.

    Yields:
        Lines for the terminal, each with False if an option's output could not be written, else True.
    """
    for output in OUTPUTS:
        target = output.target(option, os.environ)
        if target is None:
            continue
        if results.interrupted and not results.by_run and output.is_option:
            yield f"phasebench: {output.name} {target} is not written: no case was finished", True
            continue
        try:
            for line in output.write(target, results):
                yield line, True
        except OSError as error:
            reason = error.strerror or error
            if output.is_option:
                yield f"phasebench: {output.name} {target} could not be written: {error}", False
            else:
                yield f"phasebench: {output.name}: cannot write {target}: {reason}", True


def check(option: Any) -> None:
    """Check that each requested output can be written and that its modules are installed.

    Raises:
        InputError: an output cannot be written; the message names its option and says what to do.
    """
    targets: dict[Path, str] = {}
    for output in OUTPUTS:
        path = output.target(option, {})
        if path is None:
            continue
        _check_path(output.name, path, folder=output.folder)
        _check_installed(output)
        if path.resolve() in targets:
            other = targets[path.resolve()]
            raise InputError(f"{output.name} {path}: {other} writes to the same path; name another file")
        targets[path.resolve()] = output.name
    if option.store:
        _check_kind("--store", option.store, folder=True)


def _check_path(name: str, path: Path, *, folder: bool) -> None:
    _check_kind(name, path, folder=folder)
    existing = next(parent for parent in path.parents if parent.exists())
    if not existing.is_dir():
        raise InputError(f"{name} {path}: {existing} is a file; name another folder")
    if not os.access(path if path.exists() else existing, os.W_OK):
        raise InputError(f"{name} {path}: cannot be written; name another place")


def _check_kind(name: str, path: Path, *, folder: bool) -> None:
    if folder and path.exists() and not path.is_dir():
        raise InputError(f"{name} {path}: is a file; name a folder")
    if not folder and path.is_dir():
        raise InputError(f"{name} {path}: is a folder; name a file")


def _check_installed(output: Output) -> None:
    missing = [module for module in output.modules if find_spec(module) is None]
    if missing:
        needed = " and ".join(missing)
        raise InputError(f"{output.name} needs {needed}: pip install 'phasebench[report]'")
