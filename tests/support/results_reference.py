"""The schema of the results file and the tables of docs/results.md, made from the types and the catalog.

``python -m tests.support.results_reference`` writes both; a test checks that the written files are current.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter

from phasebench.catalog import CATALOG
from phasebench.judge.findings.verdict import Outcome
from phasebench.report.entries import DriftEntry, Entry, FindingEntry, MeasurementEntry
from phasebench.report.entry_forms import UNREPORTED
from phasebench.report.results import LEFT_OUT_OF_DRIFT, RECORDING, SCHEMA
from tests.support.paths import ROOT

SCHEMA_PATH = ROOT / "phasebench" / "report" / "results.schema.json"
PAGE = ROOT / "docs" / "results.md"
KEYS = {MeasurementEntry: (), FindingEntry: ("id", "data"), DriftEntry: ("curve",)}
"""Kinds of entries in the file -> fields that are no keys there: ids, and data that is spread."""


def descriptions(cls: type) -> dict[str, str]:
    """Field -> its description, from the ``Attributes`` of a class's docstring."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    items = re.split(r"\n(?=    \w+: )", f"\n{text}".rstrip())
    pairs = (re.match(r"\s*(\w+): (.*)", item, re.S) for item in items if item.strip())
    return {match[1]: " ".join(match[2].split()) for match in pairs if match}


def _properties(kind: type[Entry], definitions: dict[str, Any]) -> dict[str, Any]:
    """The keys of an entry in the results file: a JSON schema and a description each."""
    schema = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
    definitions |= schema.pop("$defs", {})
    hidden, texts = {"run", *UNREPORTED, *KEYS[kind]}, descriptions(kind)
    return {
        name: {"description": texts[name], **{k: v for k, v in one.items() if k not in ("title", "default")}}
        for name, one in schema["properties"].items()
        if name not in hidden
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


OUTCOME = {"enum": [str(outcome) for outcome in Outcome]}
PHASES = {
    "description": "Of four_phases: rise and fall in order, the layers between them and their intervals.",
    **_object(
        {
            "pattern": {"type": "array", "items": {"enum": ["rise", "fall"]}},
            "layers": {"type": "array", "items": {"type": "integer"}},
            "low": {"type": "array", "items": {"type": ["number", "null"]}},
            "high": {"type": "array", "items": {"type": ["number", "null"]}},
            "near_paper": {"type": "array", "items": OUTCOME},
            "from_layer_1": OUTCOME,
        }
    ),
}
"""What a finding adds is free; this is what the packaged one adds."""


RECORDINGS = {
    "description": "A recording that the run was compared with, and the names compared with it.",
    **_object(
        {
            **{key: {"type": "string"} for key in RECORDING},
            "names": {"type": "array", "items": {"type": "string"}},
        }
    ),
}


def results_schema() -> dict[str, Any]:
    """The JSON Schema of what ``--results`` writes."""
    definitions: dict[str, Any] = {}
    measured = _properties(MeasurementEntry, definitions)
    finding, drift = (_properties(kind, definitions) for kind in (FindingEntry, DriftEntry))
    definitions["finding"] = _object({**finding, "phases": PHASES}, ("phases",))
    definitions["drift"] = _object(drift, LEFT_OUT_OF_DRIFT)
    run = {
        "model": {"type": "string"},
        "dataset": {"type": "string"},
        **measured,
        "findings": {"type": "object", "additionalProperties": {"$ref": "#/$defs/finding"}},
        "drift": {"type": "object", "additionalProperties": {"$ref": "#/$defs/drift"}},
        "compared_with": {"type": "array", "items": RECORDINGS},
        "written": {
            "description": "Curves and `verdicts/<finding>` that this run recorded -> the folder.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
    }
    definitions["run"] = {
        "description": "A model on a dataset; without the measurement's keys if it was not finished.",
        **_object(run, tuple(measured)),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What pytest --phasebench --results writes",
        "description": "New keys do not change the number; removed or renamed keys raise it.",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "runs": {"type": "array", "items": {"$ref": "#/$defs/run"}},
            }
        ),
        "$defs": {name: _without_titles(definitions[name]) for name in sorted(definitions)},
    }


def _without_titles(schema: Any) -> Any:
    """pydantic's titles repeat the names."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def schema_text() -> str:
    """The schema as it stands in the package."""
    return json.dumps(results_schema(), indent=1) + "\n"


def _entry_table(kind: type[Entry]) -> Iterator[str]:
    texts = descriptions(kind)
    yield "| key | content |"
    yield "|---|---|"
    for field in fields(kind):
        if field.name not in ("run", *UNREPORTED, *KEYS[kind]):
            text = texts[field.name].replace("|", "\\|")
            left_out = " Left out where it is empty." if field.name in LEFT_OUT_OF_DRIFT else ""
            yield f"| `{field.name}` | {text}{left_out} |"


def _curve_table() -> Iterator[str]:
    yield "| curve | symbol | unit | page and meaning |"
    yield "|---|---|---|---|"
    for curve in CATALOG:
        page, symbol = f"[{curve.part}]({curve.part}.md)", curve.symbol.replace("|", "\\|")
        yield f"| `{curve.name}` | {symbol} | {curve.unit} | {page}: {curve.meaning} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "measurement": lambda: _entry_table(MeasurementEntry),
    "finding": lambda: _entry_table(FindingEntry),
    "drift": lambda: _entry_table(DriftEntry),
    "curves": _curve_table,
}


def page_text(page: str) -> str:
    """The page with every table between ``<!-- table NAME -->`` and ``<!-- end -->`` made anew."""

    def table(match: re.Match[str]) -> str:
        rows = "\n".join(TABLES[match[1]]())
        return f"<!-- table {match[1]} -->\n\n{rows}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", table, page, flags=re.S)


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
