"""The Markdown for a GitHub step: what went wrong first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasebench.report import summary
from phasebench.report.results import Results
from phasebench.report.summary import markdown
from tests.conftest import Run
from tests.support.entries import drift, finding


def test_a_green_run_lists_its_findings() -> None:
    lines = markdown(Results.of([finding(value=0.02131), drift("inter", 0.1, passed=True)])).splitlines()
    assert lines[0] == "### ✅ m/d"
    assert "| `four_phases` | holds | 0.0213 | 0.01 to 0.031 | holds |" in lines
    assert not any("drift" in line for line in lines)


def test_drift_stands_worst_first() -> None:
    worse = (("a", 2.0), ("b", None), ("c", 30.0))
    entries = [drift(name, excess, passed=False, measured=0.625) for name, excess in worse]
    lines = markdown(Results.of(entries)).splitlines()
    assert lines[0] == "### ❌ m/d"
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == ["b", "c", "a"]
    assert "| `c` | 7 | 0.5 | 0.625 | 30 |" in lines


def test_what_failed_otherwise_makes_a_place_red() -> None:
    broken = {"kind": "measurement", "run": "m/a", "broken": {"7.png": "from layer 3 on"}, "passed": True}
    own = {"kind": "own", "run": "m/b", "case": "test_mine[x]", "passed": False}
    lines = markdown(
        Results.of([broken, finding(run="m/a"), own, finding(run="m/b"), finding(run="m/c")])
    ).splitlines()
    assert [line for line in lines if line.startswith("###")] == ["### ❌ m/a", "### ❌ m/b", "### ✅ m/c"]
    assert "Broken image 7.png: from layer 3 on" in lines
    assert "Failed: `test_mine[x]`" in lines


def test_red_places_and_findings_come_first() -> None:
    changed = finding(run="m/b", passed=False, id="attention_sinks", verdict="does not hold", value=None)
    lines = markdown(Results.of([finding(run="m/a"), finding(run="m/b"), changed])).splitlines()
    assert [line for line in lines if line.startswith("###")] == ["### ❌ m/b", "### ✅ m/a"]
    rows = [line for line in lines if line.startswith("| `")]
    assert rows[0] == "| `attention_sinks` | **does not hold** | - | 0.01 to 0.031 | holds |"


def test_the_place_that_drifted_most_comes_first() -> None:
    entries = [
        finding(run="m/a"), finding(run="m/b", passed=False),
        drift("inter", 3.0, passed=False, run="m/c"), drift("inter", 30.0, passed=False, run="m/d"),
        drift("inter", None, passed=False, run="m/e"),
    ]  # fmt: skip
    lines = markdown(Results.of(entries)).splitlines()
    places = [line.split()[-1] for line in lines if line.startswith("###")]
    assert places == ["m/e", "m/d", "m/c", "m/b", "m/a"]


def test_a_summary_that_github_would_drop_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "LIMIT", 200)
    text = markdown(Results.of([finding(run=f"m/{index}") for index in range(50)]))
    assert len(text.encode()) < 300
    assert text.endswith("cut; the rest is in the results file.\n")


def test_a_step_is_told(run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(pytester.path / "step.md")
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    run("--snapshot-update")
    text = path.read_text()
    assert text.startswith("before\n### ✅ tiny-llava/pics\n")
    assert text.count("| `") == 6


def test_a_model_that_was_not_measured_comes_first(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(pytester.path / "step.md")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert run("--prompt", "no image here", "-m", "finding").ret == pytest.ExitCode.TESTS_FAILED
    (line,) = path.read_text().splitlines()
    assert line.startswith("### ❌ the processor refuses the prompt 'no image here' (see --prompt)")


def test_a_step_in_which_nothing_was_measured_is_told_so(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(pytester.path / "step.md")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    run("-k", "nothing_of_the_kind")
    assert path.read_text() == "phasebench: nothing was measured or compared\n"


def test_what_cannot_be_compared_is_told_with_its_reason() -> None:
    lost = {
        **drift("inter", None, passed=False),
        "layer": None,
        "told": ["no baseline for m/d/inter"],
    }
    told = markdown(Results.of([lost]))
    assert "| `inter` | - |" in told
    assert "\nno baseline for m/d/inter\n" in told


def test_a_step_summary_that_cannot_be_written_is_told(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable may come into a container without the file."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "gone" / "step.md"))
    result = run("--snapshot-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["phasebench: GITHUB_STEP_SUMMARY: cannot write *No such file*"])


def test_names_that_are_no_text_are_told_as_python_does(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system's names are bytes; ``caf\\xe9`` is what an older machine wrote for café."""
    (pytester.path / "pics").rename(pytester.path / os.fsdecode(b"caf\xe9"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "step.md"))
    result = run(
        "--snapshot-update", "-m", "finding", "--html", "report.html", dataset=os.fsdecode(b"caf\xe9")
    )
    assert result.ret == 0
    for written in ("step.md", "report.html"):
        assert "tiny-llava/caf\\udce9" in (pytester.path / written).read_text(encoding="utf-8")
