"""The results file's schema and its page: as the types and the catalog make them today."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its types are a package of their own

from phasebench.catalog import CATALOG
from phasebench.report.entries import DriftEntry, Entry, FindingEntry, MeasurementEntry
from phasebench.report.results import SCHEMA
from tests.support.results_reference import PAGE, SCHEMA_PATH, descriptions, page_text, schema_text

RENEW = "python -m tests.support.results_reference writes it"


def test_the_packaged_schema_is_made_from_the_types() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), RENEW
    schema = json.loads(schema_text())
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == SCHEMA


def test_the_page_is_made_from_the_types_and_the_catalog() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_text(page), RENEW
    assert page.count("<!-- table ") == 4
    assert [curve.name for curve in CATALOG if f"| `{curve.name}` |" not in page] == []


@pytest.mark.parametrize("kind", [MeasurementEntry, FindingEntry, DriftEntry])
def test_every_field_is_described(kind: type[Entry]) -> None:
    own = set(kind.__dataclass_fields__) - set(Entry.__dataclass_fields__)
    assert own == set(descriptions(kind))
