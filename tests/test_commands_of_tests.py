"""The programs beside the tests: their --help explains what they take, and starts nothing."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.support import sections

HELP = {
    "tests.perf": (
        "usage: python -m tests.perf [-h] [SECTION ...]",
        "write docs/performance.md, or print only the sections that are named",
        "sections to print: machine, bounds,",
    ),
    "tests.statistics": (
        "usage: python -m tests.statistics [-h] [SECTION ...]",
        "write docs/statistics.md, or print only the sections that are named",
        "sections to print: means, methods,",
    ),
    "tests.faults": (
        "usage: python -m tests.faults [-h] [--keep FILE]",
        "write docs/faults.md",
        "--keep FILE keep outcomes in FILE; a stopped run resumes from it",
    ),
    "tests.recipes": (
        "usage: python -m tests.recipes [-h] [--out FOLDER] [--install]",
        "Train a bundled model",
        "{smol-llava,smol-instructblip} the model to train",
    ),
}


@pytest.mark.parametrize("program", HELP)
def test_a_program_explains_its_arguments(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    monkeypatch.delitem(sys.modules, f"{program}.__main__", raising=False)  # imported by another test
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    assert stopped.value.code == 0
    output = " ".join(capsys.readouterr().out.split())
    assert [text for text in HELP[program] if text not in output] == []


def write_page(arguments: list[str], folder: Path) -> Path:
    """Run the program of a page with two sections; returns the page's file."""
    template, page = folder / "template.md", folder / "page.md"
    template.write_text("# Page\n\n{first}\n\n{second}\n")
    texts = {"first": lambda: "one", "second": lambda: "two"}
    sections.main("tests.page", texts, template, page, arguments)
    return page


def test_a_page_is_written_from_all_sections(tmp_path: Path) -> None:
    assert write_page([], tmp_path).read_text() == "# Page\n\none\n\ntwo\n"


def test_sections_by_name_are_printed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_page(["second", "first"], tmp_path)
    assert capsys.readouterr().out == "two\n\none\n"
    assert not page.exists()


def test_an_unknown_section_is_reported_with_all_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        write_page(["third"], tmp_path)
    assert stopped.value.code == 2
    assert "no section third; there are first, second" in capsys.readouterr().err
