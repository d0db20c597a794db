"""What GitHub shows: the step's summary in Markdown, worst first, and failed cases as errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasebench.report import github
from phasebench.report.entries import Entry
from phasebench.report.github import MAX_ANNOTATIONS, error_lines, summary
from phasebench.report.results import Failure, Results
from tests.support.entries import baseline, drift, finding, measurement, own_case
from tests.support.runs import Run


def summary_lines(*entries: Entry) -> list[str]:
    return summary(Results.of(entries)).splitlines()


def headings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("###")]


def failure(case: str, excess: float | None) -> Failure:
    """A case whose curve drifted."""
    return Failure(case, f"{case} drifted", [drift("inter", excess, passed=False)])


def test_a_green_run_lists_its_findings() -> None:
    entry = finding()
    lines = summary_lines(entry, drift("inter", 0.1, passed=True))
    assert lines[0] == "### ✅ m/d"
    assert f"| `four_phases` | holds | holds | {entry.line} |" in lines
    assert not any("drift" in line for line in lines)


def test_a_section_says_what_was_compared_with_what_and_where_it_was_written() -> None:
    folder = "/project/baselines/m/d"
    lines = summary_lines(measurement(), baseline("inter", baseline_checkpoint="12", written=folder))
    assert lines[2:6] == [
        "checkpoint ba3294baf371b48e  ",
        "prompt `'USER: <image>'`  ",
        f"baseline `m, checkpoint 12, the same prompt, in {folder}`  ",
        f"1 curve written to {folder}  ",
    ]


def test_curves_that_drifted_are_listed_worst_first() -> None:
    excesses = (("a", 2.0), ("b", None), ("c", 30.0))
    lines = summary_lines(*(drift(name, excess, passed=False, measured=0.625) for name, excess in excesses))
    assert lines[0] == "### ❌ m/d"
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == ["b", "c", "a"]
    assert "| `c` | 7 | 0.5 | 0.625 | 30 |" in lines


def test_broken_images_and_failed_cases_of_the_users_own_make_a_section_red() -> None:
    lines = summary_lines(
        measurement(run="m/a", broken={"7.png": "from layer 3 on"}), finding(run="m/a"),
        own_case("test_mine[x]", passed=False, run="m/b"), finding(run="m/b"),
        own_case("test_mine[y]", passed=True, run="m/c"), finding(run="m/c"),
    )  # fmt: skip
    assert headings(lines) == ["### ❌ m/a", "### ❌ m/b", "### ✅ m/c"]
    assert "Broken image 7.png: from layer 3 on" in lines
    assert "Failed: `test_mine[x]`" in lines
    assert not any("test_mine[y]" in line for line in lines)


def test_red_sections_and_changed_findings_come_first() -> None:
    changed = finding(run="m/b", passed=False, id="attention_sinks", verdict="does not hold", line="")
    lines = summary_lines(finding(run="m/a"), finding(run="m/b"), changed)
    assert headings(lines) == ["### ❌ m/b", "### ✅ m/a"]
    rows = [line for line in lines if line.startswith("| `")]
    assert rows[0] == "| `attention_sinks` | **does not hold** | holds | rise, fall, rise, fall |"


def test_the_section_that_drifted_most_comes_first() -> None:
    lines = summary_lines(
        finding(run="m/a"), finding(run="m/b", passed=False),
        drift("inter", 3.0, passed=False, run="m/c"), drift("inter", 30.0, passed=False, run="m/d"),
        drift("inter", None, passed=False, run="m/e"),
    )  # fmt: skip
    assert [line.split()[-1] for line in headings(lines)] == ["m/e", "m/d", "m/c", "m/b", "m/a"]


def test_a_curve_that_cannot_be_compared_is_listed_with_the_reason() -> None:
    reason = "no baseline"
    text = summary(Results.of([drift("inter", None, passed=False, layer=None, lines=[reason])]))
    assert "| `inter` | - |" in text
    assert f"\n{reason}\n" in text


def test_a_likely_cause_is_written_once() -> None:
    entries = [drift(name, 9.0, passed=False, cause="block 12 changed") for name in ("a", "b")]
    assert summary_lines(*entries).count("Likely cause: block 12 changed") == 1


def test_cases_without_a_measurement_come_before_all_sections_each_message_once() -> None:
    lost = [Failure(case, "\ncannot load m\nat line 3") for case in ("test_a", "test_b")]
    changed = finding(passed=False)
    text = summary(Results.of([changed], [*lost, Failure("test_c", "verdict changed", [changed])]))
    assert headings(text.splitlines()) == ["### ❌ cannot load m", "### ❌ m/d"]


def test_without_any_result_the_summary_is_empty() -> None:
    assert summary(Results.of([])) == ""


def test_a_summary_that_github_would_drop_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "SUMMARY_LIMIT", 200)
    text = summary(Results.of([finding(run=f"m/{index}") for index in range(50)]))
    assert len(text.encode()) < 300
    assert text.endswith("cut; the rest is in the results file.\n")


def test_errors_are_ordered_worst_first() -> None:
    failures = [
        failure("a", 2.0),
        failure("b", 30.0),
        Failure("c", "verdict", [finding(passed=False)]),
        failure("d", None),
        Failure("e", "cannot load"),
    ]
    cases = [line.split("=")[1].split("::")[0] for line in error_lines(failures)]
    assert cases == ["e", "c", "d", "b", "a"]


def test_an_error_has_the_first_line_only_and_nothing_in_it_is_a_command() -> None:
    (line,) = error_lines([Failure("test_x[m/d-50%,a:b]", "\n\nexcess 50%\nlayer 3\n::warning::no")])
    assert line == "::error title=test_x[m/d-50%25%2Ca%3Ab]::excess 50%25"
    assert list(error_lines([Failure("x", "")])) == ["::error title=x::failed"]


@pytest.mark.parametrize(
    ("count", "line_count"),
    [
        (0, 0),
        (1, 1),
        (MAX_ANNOTATIONS, MAX_ANNOTATIONS),
        (MAX_ANNOTATIONS + 1, MAX_ANNOTATIONS),
        (500, MAX_ANNOTATIONS),
    ],
)
def test_there_are_no_more_errors_than_github_shows(count: int, line_count: int) -> None:
    lines = list(error_lines([failure(f"c{index}", 2.0) for index in range(count)]))
    assert len(lines) == line_count
    if count > MAX_ANNOTATIONS:
        assert lines[-1] == f"::error title=phasebench::{count - MAX_ANNOTATIONS + 1} more cases failed"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the runs below: the pictures are measured by the first of them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def step(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a GitHub step's summary; GitHub's variables are set."""
    path = Path(pytester.path / "step.md")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    return path


def test_each_failed_case_of_a_run_is_an_error_line(run: Run, step: Path, store: Path) -> None:
    result = run("-m", "finding", store=store)
    lines = [line for line in result.outlines if line.startswith("::error")]
    assert 0 < len(lines) == result.parseoutcomes()["failed"]
    assert all(line.startswith("::error title=test_") for line in lines)
    assert not any("tiny-llava" in line.rpartition("]::")[2] for line in lines)


def test_outside_github_no_error_line_is_printed(run: Run, store: Path) -> None:
    result = run("-m", "finding", store=store)
    assert result.parseoutcomes()["failed"] > 0
    result.stdout.no_fnmatch_line("::error*")


def test_a_model_that_cannot_be_measured_is_an_error_and_comes_first_in_the_summary(
    run: Run, step: Path
) -> None:
    result = run("--prompt", "no image here", "-m", "finding")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len([line for line in result.outlines if line.startswith("::error ")]) == 1
    (line,) = step.read_text().splitlines()
    assert line.startswith("### ❌ ")
    assert "the prompt 'no image here'" in line
    assert "see --prompt" in line


def test_a_run_adds_its_sections_to_the_summary_of_the_step(run: Run, step: Path, store: Path) -> None:
    step.write_text("before\n")
    run("--snapshot-update", store=store)
    text = step.read_text()
    assert text.startswith("before\n### ✅ tiny-llava/pics\n")
    assert text.count("| `") == 6


def test_the_summary_of_a_step_that_measured_nothing_says_so(run: Run, step: Path) -> None:
    run("-k", "nothing_of_the_kind")
    assert step.read_text() == "phasebench: nothing was measured or compared\n"


def test_a_summary_that_cannot_be_written_is_reported_and_the_run_stays_green(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """The variable may come into a container without the file."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "gone" / "step.md"))
    result = run("--snapshot-update", "-m", "finding", store=store)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["phasebench: GITHUB_STEP_SUMMARY: cannot write *No such file*"])


def test_names_that_are_not_unicode_are_written_as_python_writes_them(
    run: Run, pytester: pytest.Pytester, step: Path, store: Path
) -> None:
    """A file system's names are bytes; ``caf\\xe9`` is what an older machine wrote for café."""
    name = os.fsdecode(b"caf\xe9")
    (pytester.path / "pics").rename(pytester.path / name)
    result = run("--snapshot-update", "-m", "finding", "--html", "report.html", dataset=name, store=store)
    assert result.ret == 0
    for path in (step, pytester.path / "report.html"):
        assert "tiny-llava/caf\\udce9" in path.read_text(encoding="utf-8")
