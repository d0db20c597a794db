"""The last lines of a run: every failed case once, with its cause, and an id that can be pasted."""

from __future__ import annotations

import pytest

from tests.support.runs import Run

OWN = """
def test_short(): assert False, "short"
def test_long(): raise ValueError("a long cause " * 8 + "end")
"""


def last_lines(result: pytest.RunResult) -> list[str]:
    """The lines after the title."""
    number = next(n for n, line in enumerate(result.outlines) if "= failed cases =" in line)
    return result.outlines[number + 1 : -1]


def test_a_failed_case_has_its_id_and_its_cause(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = pytester.makepyfile(test_mine=OWN)
    short, long, cause, command, *_ = last_lines(run(str(path)))
    name = f"{path.name}::test_"
    assert short == f"FAILED {name}short - AssertionError: short"
    assert (long, cause) == (f"FAILED {name}long", f"  ValueError: {'a long cause ' * 8}end")
    assert command.startswith("to run one again: pytest -p phasebench.plugin --phasebench ")
    assert command.endswith(" ID")
    assert path.name not in command


def test_without_failures_there_is_no_list(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile("def test_fine(): pass")
    run(str(path)).stdout.no_fnmatch_line("*failed cases*")


def test_the_list_can_be_left_out(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(test_mine=OWN)
    for option in ("-rN", "--no-summary"):
        run(str(path), option).stdout.no_fnmatch_line("*failed cases*")
