"""The results file: as its schema says, no key of it undocumented, and back as tables."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # its types are a package of their own
    Draft202012Validator,
    ValidationError,
)

import phasebench
from phasebench.catalog import CURVES, FINDINGS
from phasebench.errors import InputError
from phasebench.report import results
from tests.conftest import Run
from tests.support.paths import ROOT

SCHEMA = json.loads((Path(results.__file__).parent / "results.schema.json").read_text(encoding="utf-8"))
DOCS = ROOT / "docs" / "results.md"


def closed(schema: Any) -> Any:
    """The schema, refusing every key that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {key: closed(value) for key, value in schema.items()}
    is_object = "object" in shut.get("type", ()) and "properties" in shut
    return {**shut, "additionalProperties": False} if is_object else shut


VALIDATOR = Draft202012Validator(closed(SCHEMA))


@pytest.fixture
def written(run: Run, pytester: pytest.Pytester) -> dict[str, Any]:
    """A run with every part: controls, baselines of the run before, an image set aside."""
    (pytester.path / "pics" / "val" / "0.png").write_bytes(b"no picture")
    run("--snapshot-update")
    run("--controls", "--results", "results.json")
    read: dict[str, Any] = json.loads((pytester.path / "results.json").read_text())
    return read


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == results.SCHEMA


def test_what_is_written_is_what_the_schema_says_and_no_more(written: dict[str, Any]) -> None:
    VALIDATOR.validate(written)
    (run,) = written["runs"]
    assert set(run) == set(SCHEMA["$defs"]["run"]["properties"])
    assert (list(run["curves"]), set(run["findings"])) == (list(CURVES), set(FINDINGS))
    assert run["skipped"]
    assert all(entry["excess"] <= 1 for entry in run["drift"].values())


def test_what_a_first_run_writes_too(run: Run, pytester: pytest.Pytester) -> None:
    run("--snapshot-update", "--results", "results.json")
    VALIDATOR.validate(json.loads((pytester.path / "results.json").read_text()))


WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("schema",), 2),
    (("runs", 0, "findings", "four_phases", "verdict"), "perhaps"),
    (("runs", 0, "curves", "inter", "mean"), ["0.1"]),
    (("runs", 0, "drift", "inter", "excess"), "much"),
    (("runs", 0, "surprise"), 1),
]


def test_the_schema_sees_what_is_wrong(written: dict[str, Any]) -> None:
    for path, value in WRONG:
        wrong = deepcopy(written)
        inner = wrong
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        with pytest.raises(ValidationError):
            VALIDATOR.validate(wrong)


def test_every_key_of_a_run_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [key for key in SCHEMA["$defs"]["run"]["properties"] if f"`{key}`" not in text] == []


def test_results_come_back_as_tables(written: dict[str, Any], pytester: pytest.Pytester) -> None:
    (run,) = written["runs"]
    table = phasebench.load_results(pytester.path / "results.json")
    inter = table[(table["curve"] == "inter") & (table["control"] == "none")]
    assert inter["mean"].tolist() == run["curves"]["inter"]["mean"]
    assert inter["depth"].tolist() == [layer / 6 for layer in range(7)]
    assert set(table["control"]) == {"none", "blank", "projector", "text"}
    assert set(table["model"] + "/" + table["dataset"]) == {"tiny-llava/pics"}
    findings = phasebench.load_results(str(pytester.path / "results.json"), "findings").set_index("finding")
    assert findings["verdict"].to_dict() == {
        name: entry["verdict"] for name, entry in run["findings"].items()
    }
    drift = phasebench.load_results(pytester.path / "results.json", "drift").set_index("curve")
    assert (drift["shared"] == drift["images"]).all()
    assert drift["excess"].to_dict() == {name: entry["excess"] for name, entry in run["drift"].items()}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "not a results file: .*No such file"),
        ("{", "not a results file"),
        ("[]", r"of schema 1 \(found: None\)"),
        ('{"schema": 2, "runs": []}', r"of schema 1 \(found: 2\)"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=told):
        phasebench.load_results(path)


def test_an_empty_run_has_empty_tables_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"schema": 1, "runs": [{"model": "m", "dataset": "d", "findings": {}, "drift": {}}]}')
    for table in ("curves", "findings", "drift"):
        assert list(phasebench.load_results(path, table).columns)[:2] == ["model", "dataset"]
    with pytest.raises(InputError, match="there are curves, findings, drift"):
        phasebench.load_results(path, "heatmap")  # type: ignore[arg-type]
