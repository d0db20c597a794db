"""The results file as tables, for notebooks and scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from phasebench.errors import InputError
from phasebench.report.results import SCHEMA

Table = Literal["curves", "findings", "drift"]
COLUMNS: Mapping[Table, tuple[str, ...]] = {
    "curves": ("control", "curve", "layer", "depth", "mean", "se", "n"),
    "findings": (
        "finding", "verdict", "value", "low", "high", "margin", "images_needed", "recorded", "detail",
    ),
    "drift": (
        "curve", "layer", "excess", "recorded", "measured", "low", "high", "effect", "shared", "images",
    ),
}  # fmt: skip
"""Columns after ``model`` and ``dataset``."""


def load_results(path: str | Path, table: Table = "curves") -> pd.DataFrame:
    """A file that ``--results`` wrote as one long table, a row for each number.

    ``curves``: a row a curve and layer, ``control`` being ``none`` for the images themselves; ``depth`` is
    the layer over the last one. ``findings`` and ``drift``: a row a finding or curve. All begin with
    ``model`` and ``dataset``; docs/results.md says what the columns hold.

    Raises:
        InputError: the file is missing, not a results file, or of another version; or there is no such table.
    """
    if table not in get_args(Table):
        raise InputError(f"table {table!r}: there are {', '.join(get_args(Table))}")
    rows = [
        {"model": run["model"], "dataset": run["dataset"], **row}
        for run in _runs(Path(path))
        for row in ROWS[table](run)
    ]
    return pd.DataFrame(rows, columns=["model", "dataset", *COLUMNS[table]])


def _runs(path: Path) -> list[dict[str, Any]]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a results file: {error}") from error
    version = read.get("schema") if isinstance(read, dict) else None
    if version != SCHEMA:
        raise InputError(f"{path}: not a results file of schema {SCHEMA} (found: {version})")
    return list(read["runs"])


def _curves(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for control, curves in {"none": run.get("curves", {}), **run.get("controls", {})}.items():
        for name, columns in curves.items():
            last = columns["layer"][-1] or 1
            for layer, *numbers in zip(*(columns[key] for key in ("layer", "mean", "se", "n")), strict=True):
                values = (control, name, layer, layer / last, *numbers)
                yield dict(zip(COLUMNS["curves"], values, strict=True))


def _findings(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, entry in run["findings"].items():
        yield {"finding": name, **{key: entry[key] for key in COLUMNS["findings"][1:]}}


def _drift(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, entry in run["drift"].items():
        yield {"curve": name, **{key: entry.get(key) for key in COLUMNS["drift"][1:]}}


ROWS: Mapping[Table, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = {
    "curves": _curves,
    "findings": _findings,
    "drift": _drift,
}
