"""The screen of one model and dataset: its parts in order, as wide as the terminal, from plain data."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from phasebench.catalog import CATALOG, CURVES, PARTS
from phasebench.report.entries import Columns, Entry
from phasebench.report.results import Results
from phasebench.report.terminal import notes, skips, tables
from tests.support import picture
from tests.support.entries import COLUMNS, CONTROL, PHASES, PROVENANCE, drift, finding, measurement, timing

DRAWN_CURVES = [curve.name for curve in CATALOG if curve.in_summary]
"""Curves that are drawn without ``-v``."""
TIMING = [timing("pass", 0.66, 0.6), timing("plain", 0.1, None)]
EVERYTHING = [measurement(), finding(data={"phases": PHASES}), drift("inter", 0.2, passed=True), *TIMING]


class Reporter:
    def __init__(self, width: int, verbosity: int, colour: bool) -> None:
        self.verbosity = verbosity
        self._tw = SimpleNamespace(fullwidth=width, hasmarkup=colour)
        self.separated: list[str] = []

    def write_sep(self, sep: str, title: str) -> None:
        self.separated.append(f"{sep} {title}")


def screen(*entries: Entry, width: int = 80, verbosity: int = 0, colour: bool = False) -> list[str]:
    reporter = Reporter(width, verbosity, colour)
    lines = list(tables(Results.of(entries), reporter))  # type: ignore[arg-type]
    assert reporter.separated == (["= phasebench m/d"] if verbosity >= 0 else [])
    return lines


def row(lines: list[str], start: str) -> str:
    (line,) = [line for line in lines if line.startswith(start)]
    return line


def test_the_parts_stand_in_order() -> None:
    lines = screen(*EVERYTHING)
    starts = ["model ", "images ", "ran on ", "took ", "finding ", "four_phases ", "no drift ", "timing: "]
    starts += ["against the stored benchmark: ", "inter: ", "┌", "curve ", "inter "]
    numbers = [lines.index(row(lines, start)) for start in starts]
    assert numbers == sorted(numbers)
    assert lines.count("") == 5


def test_model_images_machine_and_seconds_are_shown() -> None:
    lines = screen(measurement())
    assert row(lines, "model") == "model   llava, checkpoint ba3294baf371b48e"
    assert row(lines, "images") == "images  60, each 36 tokens at 3-38 of 50 positions"
    assert row(lines, "ran on") == "ran on  cpu (x86_64), float32, torch 2.13.0, transformers 5.23.0"
    assert row(lines, "took") == "took    41.8 s"


def test_a_model_of_the_hub_is_shown_with_its_commit() -> None:
    provenance = {**PROVENANCE, "source": "owner/name@1234abcd"}
    lines = screen(measurement(provenance=provenance, layout=[PROVENANCE["layout"]] * 2))
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
    timing = measurement().timing if total else dict.fromkeys(measurement().timing)
    lines = screen(measurement(stored=stored, timing={**timing, "total": total}))
    assert row(lines, "took") == f"took    {took}"
    assert any(line.startswith("timing: ") for line in lines) is (total is not None)


def test_timing_is_compared_with_the_plain_pass_and_the_stored_benchmark() -> None:
    lines = screen(*EVERYTHING)
    assert row(lines, "timing") == "timing: 696 ms an image, 5.09 x the plain forward pass (134 ms)"
    assert row(lines, "against") == "against the stored benchmark: pass +10.0 % (600 ms)"
    assert not any("benchmark" in line for line in screen(measurement(), TIMING[1]))


@pytest.mark.parametrize("verbosity", [0, 1])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int, verbosity: int) -> None:
    lines = screen(*EVERYTHING, width=width, verbosity=verbosity)
    assert all(len(line) <= width for line in lines)
    assert all(name in "\n".join(lines) for name in DRAWN_CURVES)


def test_one_screen_is_enough() -> None:
    """Six findings whose controls do not differ, and as many curves that drifted as are shown."""
    control = {**CONTROL, "differs": False}
    six = [finding(id=f"finding_{number}", controls=[control]) for number in range(6)]
    red = [drift(name, 5.0, passed=False) for name in CURVES]
    assert len(screen(measurement(), *six, *red, *TIMING)) <= 62
    assert (
        len(screen(measurement(), *(finding(id=str(n)) for n in range(6)), drift("inter", 0.1, passed=True)))
        <= 45
    )


def test_phase_boundaries_are_marked_in_every_curve() -> None:
    lines = screen(*EVERYTHING, width=100)
    for name in DRAWN_CURVES:
        assert [len(part) for part in row(lines, f"{name} ")[14:58].split("│")] == [4, 7, 23, 7]
    assert "3 [3, 4]" in "\n".join(lines)
    assert "III rise" in "\n".join(lines)


def test_without_phases_no_boundary_is_marked() -> None:
    lines = screen(measurement())
    assert "│" not in row(lines, "inter ") + row(lines, "curve ")


def test_numbers_stand_beside_a_curve_whatever_its_length() -> None:
    lines = screen(*EVERYTHING)
    assert row(lines, "inter ").split()[-3:] == ["0", "0.7", "0.5"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_verbose_has_every_curve_and_tables_by_layer_with_whole_names(width: int) -> None:
    lines = screen(*EVERYTHING, width=width, verbosity=1)
    assert all(row(lines, f"{name} ") for name in set(CURVES) - {"inter"})
    heads = [number for number, line in enumerate(lines) if line.split()[:1] == ["layer"]]
    assert [name for head in heads for name in lines[head].split()[1:]] == list(CURVES)
    for head in heads:
        rows = [line.split() for line in lines[head + 1 : head + 42]]
        assert [row[0] for row in rows] == [str(layer) for layer in range(41)]
        assert rows[3] == ["3", *["0.4"] * (len(lines[head].split()) - 1)]
    assert max(map(len, lines)) <= width
    assert len(heads) == len(PARTS) or width < 200


def test_long_numbers_in_tables_by_layer_are_not_cut() -> None:
    columns: Columns = {**COLUMNS, "mean": [-1.234567e-05] * 41}
    curves = dict.fromkeys(CURVES, columns)
    lines = screen(measurement(curves=curves), verbosity=1)
    head = next(number for number, line in enumerate(lines) if line.split()[:1] == ["layer"])
    assert set(lines[head + 1].split()[1:]) == {"-1.23e-05"}
    assert not any("…" in line for line in lines)


def test_under_q_nothing_is_shown() -> None:
    assert screen(*EVERYTHING, verbosity=-1) == []


def test_a_curve_without_values_is_shown_as_dashes() -> None:
    empty = {"layer": [0, 1], "mean": [None, None], "se": [None, None], "n": [0, 0]}
    lines = screen(measurement(curves=dict.fromkeys(CURVES, empty)), verbosity=1)
    assert row(lines, "total ").split() == ["total", "-", "-", "-"]
    assert not any(line.startswith("┌") for line in lines)


def test_parts_that_are_not_measured_are_listed_with_the_reason() -> None:
    provenance = {**PROVENANCE, "unmeasured": {"lens": "no readout", "attention": "not at layers 3-5"}}
    text = screen(measurement(provenance=provenance))
    assert [line for line in text if line.startswith(("left out", "not measured"))] == [
        "not measured  lens: no readout",
        "not measured  attention: not at layers 3-5",
    ]


def test_a_model_that_could_not_be_measured_has_no_curves() -> None:
    assert len(screen(finding())) == 3


@pytest.mark.parametrize("colour", [True, False])
def test_only_a_terminal_with_colours_gets_them(colour: bool) -> None:
    text = "\n".join(screen(*EVERYTHING, colour=colour))
    assert ("\x1b[" in text) is colour
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_skipped_images_are_counted_once_a_dataset_with_the_first_of_each_reason() -> None:
    reasons = ("truncated", "missing", "truncated")
    skipped = [{"id": str(i), "path": f"x/{i}.png", "reason": reason} for i, reason in enumerate(reasons)]
    entries = [measurement(run=run, skipped=skipped) for run in ("m/d", "n/d")]
    complete = measurement(run="m/good", provenance={**PROVENANCE, "dataset": "good"})
    assert list(skips(Results.of([*entries, complete, finding(run="k/d")]))) == [
        "d: 3 images skipped, 2 measured: 2 truncated (x/0.png, ...), 1 missing (x/1.png)"
    ]


def test_notes_of_a_measurement_name_the_model_and_dataset() -> None:
    entries = [
        measurement(notes=["memory ran out", "store is full"]),
        measurement(run="n/d"),
        finding(run="k/d"),
    ]
    assert list(notes(Results.of(entries))) == ["m/d: memory ran out", "m/d: store is full"]


def test_the_picture_for_the_documentation_keeps_the_tables_only() -> None:
    output = [
        "cases/test_x.py . [100%]",
        "=== phasebench m/d ===",
        "\x1b[32mholds\x1b[0m",
        "--- benchmark ---",
        "Name",
    ]
    assert list(picture.tables(output)) == ["=== phasebench m/d ===", "\x1b[32mholds\x1b[0m"]
    svg = picture.picture(output, "title")
    assert svg.startswith("<svg")
    assert "holds" in svg
    assert "Name" not in svg
