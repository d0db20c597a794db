"""Results: sorted by model and dataset, written as their schema says, documented, and back as tables."""

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
from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.report import results
from phasebench.report.entries import FindingEntry, MeasurementEntry
from phasebench.report.results import Failure, Results, short
from tests.support.entries import COLUMNS, baseline, drift, finding, measurement, own_case
from tests.support.paths import ROOT
from tests.support.runs import FINDING_IDS, Run

SCHEMA = json.loads((Path(results.__file__).parent / "results.schema.json").read_text(encoding="utf-8"))
DOCS = ROOT / "docs" / "results.md"


def closed(schema: Any) -> Any:
    """The schema, refusing every key that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(value) for key, value in schema.items()}
    is_object = "object" in parts.get("type", ()) and "properties" in parts
    return {**parts, "additionalProperties": False} if is_object else parts


VALIDATOR = Draft202012Validator(closed(SCHEMA))


def test_runs_are_sorted_by_model_and_dataset_without_the_entries_own_keys() -> None:
    entries = [finding(run="b/d"), finding(run="a/d"), drift("inter", 0.5, passed=True, run="a/d")]
    runs = Results.of(entries).as_dict()["runs"]
    assert [run["model"] for run in runs] == ["a", "b"]
    assert not {"run", "id", "kind", "passed"} & set(runs[0]["findings"]["four_phases"])
    assert not {"run", "curve", "kind", "passed"} & set(runs[0]["drift"]["inter"])
    assert runs[0]["drift"]["inter"]["excess"] == 0.5


def test_the_file_says_what_was_compared_with_what_and_where_it_was_written() -> None:
    other = baseline("lift", baseline="teacher", baseline_folder="/else/teacher/d", baseline_prompt="else")
    new = baseline("recall", baseline_folder="", baseline_checkpoint="", written="/project/baselines/m/d")
    entries = (baseline("inter"), baseline("verdicts/four_phases"), other, new)
    (run,) = Results.of(entries).as_dict()["runs"]
    first, second = run["compared_with"]
    assert first == {
        "model": "m", "folder": "/project/baselines/m/d", "checkpoint": "ba3294baf371b48e",
        "prompt": "USER: <image>", "names": ["inter", "verdicts/four_phases"],
    }  # fmt: skip
    assert (second["model"], second["prompt"], second["names"]) == ("teacher", "else", ["lift"])
    assert run["written"] == {"recall": "/project/baselines/m/d"}


def test_a_run_of_the_results_file_has_the_measurement_beside_verdicts_and_drift() -> None:
    changed = finding(id="ours", passed=False)
    (run,) = Results.of([measurement(), changed, own_case("test_x", passed=True)]).as_dict()["runs"]
    assert (run["model"], run["dataset"], run["images"]) == ("m", "d", ["a", "b"])
    assert (list(run["findings"]), run["drift"]) == (["ours"], {})
    assert "case" not in run


def test_a_baseline_and_the_reason_for_leaving_it_are_written_only_where_there_are_any() -> None:
    bare = drift("inter", 0.5, passed=True)
    full = drift("lift", 0.5, passed=True, baseline=COLUMNS, left="too few images")
    (run,) = Results.of([bare, full]).as_dict()["runs"]
    assert not {"baseline", "by_layer", "left"} & set(run["drift"]["inter"])
    assert (run["drift"]["lift"]["baseline"], run["drift"]["lift"]["left"]) == (COLUMNS, "too few images")


def test_entries_of_a_kind_keep_their_order_and_verdicts_and_drift_have_one_of_their_own() -> None:
    entries = [
        finding(id="ours", order=100), drift("a", 2.0, passed=False), drift("b", None, passed=False),
        finding(id="second", order=2), finding(id="first", order=1), drift("c", 30.0, passed=False),
    ]  # fmt: skip
    sorted_entries = Results.of(entries)
    assert [e.id for e in sorted_entries.entries("m/d", FindingEntry)] == ["ours", "second", "first"]
    assert [e.id for e in sorted_entries.findings("m/d")] == ["first", "second", "ours"]
    assert [e.curve for e in sorted_entries.drift("m/d")] == ["b", "c", "a"]


def test_a_model_that_was_not_measured_has_no_measurement() -> None:
    measured = measurement(run="a/d")
    both = Results.of([measured, finding(run="b/d")])
    assert both.entries("b/d", MeasurementEntry) == []
    assert (both.measurement("a/d"), both.measurement("b/d")) == (measured, None)
    assert both.measurements() == {"a/d": measured}
    assert both.run_ids == ["a/d", "b/d"]


@pytest.mark.parametrize(
    ("message", "line"), [("\n  \ncannot load\nat line 3", "cannot load"), ("", "failed"), (" \n", "failed")]
)
def test_the_first_line_of_a_failure(message: str, line: str) -> None:
    assert Failure("test_x", message).first_line == line


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.02134, "0.0213"), (0.0, "0"), (1234.0, "1.23e+03")]
)
def test_a_number_in_a_table_has_three_digits(value: float | None, text: str) -> None:
    assert short(value) == text


@pytest.fixture(scope="module")
def folder_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def results_path(folder_of_module: Path, run: Run, pytester: pytest.Pytester) -> Path:
    """The file of a run with every part, made once: controls, baselines of a run before, a skipped image.

    The run before also wrote a file, ``first.json``: it had no baselines and no controls.
    """
    path = folder_of_module / "results.json"
    if not path.exists():
        (pytester.path / "pics" / "val" / "0.png").write_bytes(b"no picture")
        run("--snapshot-update", "--results", str(folder_of_module / "first.json"))
        run("--controls", "--results", str(path))
    return path


@pytest.fixture
def results_file(results_path: Path) -> dict[str, Any]:
    """What the file holds; each test may change its own copy."""
    content: dict[str, Any] = json.loads(results_path.read_text())
    return content


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == results.SCHEMA


def test_the_results_file_has_what_the_schema_says_and_no_more(results_file: dict[str, Any]) -> None:
    VALIDATOR.validate(results_file)
    (run,) = results_file["runs"]
    assert set(run) == set(SCHEMA["$defs"]["run"]["properties"])
    assert (list(run["curves"]), set(run["findings"])) == (list(CURVES), set(FINDING_IDS))
    assert run["skipped"]
    assert all(entry["excess"] <= 1 for entry in run["drift"].values())


def test_the_results_file_of_a_first_run_too(results_path: Path) -> None:
    VALIDATOR.validate(json.loads(results_path.with_name("first.json").read_text()))


WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("schema",), 2),
    (("runs", 0, "findings", "four_phases", "verdict"), "perhaps"),
    (("runs", 0, "curves", "inter", "mean"), ["0.1"]),
    (("runs", 0, "drift", "inter", "excess"), "much"),
    (("runs", 0, "surprise"), 1),
]


def test_the_schema_refuses_wrong_values_and_unknown_keys(results_file: dict[str, Any]) -> None:
    for path, value in WRONG:
        wrong = deepcopy(results_file)
        inner = wrong
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        with pytest.raises(ValidationError):
            VALIDATOR.validate(wrong)


def test_every_key_of_a_run_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [key for key in SCHEMA["$defs"]["run"]["properties"] if f"`{key}`" not in text] == []


def test_results_come_back_as_tables(results_file: dict[str, Any], results_path: Path) -> None:
    (run,) = results_file["runs"]
    table = phasebench.load_results(results_path)
    inter = table[(table["curve"] == "inter") & (table["control"] == "none")]
    assert inter["mean"].tolist() == run["curves"]["inter"]["mean"]
    assert inter["depth"].tolist() == [layer / 6 for layer in range(7)]
    assert set(table["control"]) == {"none", "blank", "projector", "text"}
    assert set(table["model"] + "/" + table["dataset"]) == {"tiny-llava/pics"}
    findings = phasebench.load_results(str(results_path), "findings").set_index("finding")
    assert findings["verdict"].to_dict() == {
        name: entry["verdict"] for name, entry in run["findings"].items()
    }
    curves = phasebench.load_results(results_path, "drift").set_index("curve")
    assert (curves["shared"] == curves["images"]).all()
    assert curves["excess"].to_dict() == {name: entry["excess"] for name, entry in run["drift"].items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a results file: .*No such file"),
        ("{", "not a results file"),
        ("[]", r"of schema 1 \(found: None\)"),
        ('{"schema": 2, "runs": []}', r"of schema 1 \(found: 2\)"),
    ],
)
def test_a_file_that_is_not_a_results_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        phasebench.load_results(path)


def test_an_empty_run_has_empty_tables_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"schema": 1, "runs": [{"model": "m", "dataset": "d", "findings": {}, "drift": {}}]}')
    for table in ("curves", "findings", "drift"):
        assert list(phasebench.load_results(path, table).columns)[:2] == ["model", "dataset"]
    with pytest.raises(InputError, match="there are curves, findings, drift"):
        phasebench.load_results(path, "heatmap")  # type: ignore[arg-type]
