"""The screen of one model and dataset: its parts in order, as wide as the terminal, from plain data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from phasebench.catalog import CURVES, PARTS
from phasebench.report.results import Results
from phasebench.report.terminal import SHOWN, tables
from tests.support.entries import PHASES, drift, finding, measurement

TIMING = [
    {"kind": "timing", "run": "m/d", "passed": True, "route": "pass", "seconds": 0.66, "stored": 0.6},
    {"kind": "timing", "run": "m/d", "passed": True, "route": "plain", "seconds": 0.1, "stored": None},
]
EVERYTHING = [measurement(), finding(phases=PHASES), drift("inter", 0.2, passed=True), *TIMING]


class Reporter:
    def __init__(self, width: int, verbosity: int, colour: bool) -> None:
        self.verbosity = verbosity
        self._tw = SimpleNamespace(fullwidth=width, hasmarkup=colour)
        self.separated: list[str] = []

    def write_sep(self, sep: str, title: str) -> None:
        self.separated.append(f"{sep} {title}")


def shown(*entries: dict[str, Any], width: int = 80, verbosity: int = 0, colour: bool = False) -> list[str]:
    reporter = Reporter(width, verbosity, colour)
    lines = list(tables(Results.of(entries), reporter))  # type: ignore[arg-type]
    assert reporter.separated == (["= phasebench m/d"] if verbosity >= 0 else [])
    return lines


def row(lines: list[str], start: str) -> str:
    (found,) = [line for line in lines if line.startswith(start)]
    return found


def test_the_parts_stand_in_order() -> None:
    lines = shown(*EVERYTHING)
    starts = ["model ", "images ", "ran on ", "took ", "finding ", "four_phases ", "no drift ", "timing: "]
    starts += ["against the stored benchmark: ", "inter: ", "┌", "curve ", "inter "]
    numbers = [lines.index(row(lines, start)) for start in starts]
    assert numbers == sorted(numbers)
    assert lines.count("") == 5


def test_what_was_measured_is_told() -> None:
    lines = shown(measurement())
    assert row(lines, "model") == "model   llava, checkpoint ba3294baf371b48e"
    assert row(lines, "images") == "images  60, each 36 tokens at 3-38 of 50 positions"
    assert row(lines, "ran on") == "ran on  cpu (x86_64), float32, torch 2.13.0, transformers 5.23.0"
    assert row(lines, "took") == "took    41.8 s"


def test_a_model_of_the_hub_is_told_with_its_commit() -> None:
    entry = measurement()
    source = entry["provenance"] | {"source": "owner/name@1234abcd"}
    lines = shown(entry | {"provenance": source, "layout": [{}, {}]})
    assert row(lines, "model") == "model   llava, owner/name@1234abcd, checkpoint ba3294baf371b48e"
    assert row(lines, "images") == "images  60, in several layouts"


@pytest.mark.parametrize(
    ("total", "stored", "took"),
    [
        (41.76, 0, "41.8 s"),
        (None, 60, "60 images from the store (--fresh measures them again)"),
        (3.0, 4, "3.0 s; 4 images from the store (--fresh measures them again)"),
    ],
)
def test_images_from_the_store_are_no_seconds(total: float | None, stored: int, took: str) -> None:
    entry = measurement(stored=stored)
    lines = shown(entry | {"timing": entry["timing"] | {"total": total}})
    assert row(lines, "took") == f"took    {took}"
    assert any(line.startswith("timing: ") for line in lines) is (total is not None)


def test_timing_is_told_against_the_plain_pass_and_the_stored_benchmark() -> None:
    lines = shown(*EVERYTHING)
    assert row(lines, "timing") == "timing: 696 ms an image, 5.09 x the plain forward pass (134 ms)"
    assert row(lines, "against") == "against the stored benchmark: pass +10.0 % (600 ms)"
    assert not any("benchmark" in line for line in shown(measurement(), TIMING[1]))


@pytest.mark.parametrize("verbosity", [0, 1])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int, verbosity: int) -> None:
    lines = shown(*EVERYTHING, width=width, verbosity=verbosity)
    assert all(len(line) <= width for line in lines)
    assert all(name in "\n".join(lines) for name in SHOWN)


def test_one_screen_is_enough() -> None:
    """Six findings whose controls do not differ, and as many curves that drifted as are shown."""
    control = {**finding()["controls"][0], "differs": False}
    six = [finding(id=f"finding_{number}", controls=[control]) for number in range(6)]
    red = [drift(name, 5.0, passed=False) for name in CURVES]
    assert len(shown(measurement(), *six, *red, *TIMING)) <= 62
    assert (
        len(shown(measurement(), *(finding(id=str(n)) for n in range(6)), drift("inter", 0.1, passed=True)))
        <= 45
    )


def test_where_phases_meet_is_marked_in_every_curve() -> None:
    lines = shown(*EVERYTHING, width=100)
    for name in SHOWN:
        assert [len(part) for part in row(lines, f"{name} ")[14:58].split("│")] == [4, 7, 23, 7]
    assert "3 [3, 4]" in "\n".join(lines)
    assert "III rise" in "\n".join(lines)


def test_without_phases_nothing_is_marked() -> None:
    lines = shown(measurement())
    assert "│" not in row(lines, "inter ") + row(lines, "curve ")


def test_numbers_stand_beside_a_curve_whatever_its_length() -> None:
    lines = shown(*EVERYTHING)
    assert row(lines, "inter ").split()[-3:] == ["0", "0.7", "0.5"]


def test_verbose_has_every_curve_and_a_table_by_layer() -> None:
    lines = shown(*EVERYTHING, verbosity=1)
    assert all(row(lines, f"{name} ") for name in set(CURVES) - {"inter"})
    heads = [number for number, line in enumerate(lines) if line.split()[:1] == ["layer"]]
    assert len(heads) == len(PARTS)
    for head, names in zip(heads, PARTS.values(), strict=True):
        rows = [line.split() for line in lines[head + 1 : head + 42]]
        assert [row[0] for row in rows] == [str(layer) for layer in range(41)]
        assert rows[3] == ["3", *["0.4"] * len(names)]
        told = " ".join(lines[max(0, head - 3) : head + 1])
        assert all(part in told for name in names for part in name.split("_"))
    assert max(map(len, lines)) <= 80


def test_quiet_is_quiet() -> None:
    assert shown(*EVERYTHING, verbosity=-1) == []


def test_a_curve_without_values_is_no_reason_to_fail() -> None:
    empty = {"layer": [0, 1], "mean": [None, None], "se": [None, None], "n": [0, 0]}
    lines = shown(measurement(curves=dict.fromkeys(CURVES, empty)), verbosity=1)
    assert row(lines, "total ").split() == ["total", "-", "-", "-"]
    assert not any(line.startswith("┌") for line in lines)


def test_what_failed_before_it_was_measured_has_no_curves() -> None:
    assert len(shown(finding())) == 3


@pytest.mark.parametrize("colour", [True, False])
def test_colour_only_where_the_terminal_has_it(colour: bool) -> None:
    text = "\n".join(shown(*EVERYTHING, colour=colour))
    assert ("\x1b[" in text) is colour
    assert not any(line.endswith(" ") for line in text.splitlines())
