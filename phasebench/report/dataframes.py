"""``phasebench.load_results``: the results file as pandas tables, for notebooks and scripts."""

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
        "finding", "verdict", "value", "low", "high", "margin", "images_needed", "recorded", "line",
        "detail",
    ),
    "drift": (
        "curve", "layer", "excess", "recorded", "measured", "low", "high", "effect", "shared", "images",
    ),
}  # fmt: skip
"""Table -> its columns after ``model`` and ``dataset``."""


def load_results(path: str | Path, table: Table = "curves") -> pd.DataFrame:
    """Read a results file (of ``--results``) as one long table.

    Args:
        path: the file.
        table: ``curves`` has one row per curve and layer; its column ``control`` is ``none`` for the
            measured images, and ``depth`` is the layer divided by the last layer. ``findings`` has one row
            per finding, ``drift`` one per compared curve.

    Returns:
        The table. Its first columns are ``model`` and ``dataset``; docs/results.md explains the others.

    Raises:
        InputError: the file is missing, is no results file or has another schema, or there is no such table.
    """
    if table not in get_args(Table):
        raise InputError(f"there is no table {table!r}; there are {', '.join(get_args(Table))}")
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
