"""The plugin in other projects: it does nothing without its flag, and disturbs nothing with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phasebench.catalog import CURVES
from phasebench.files import packaged_folder
from tests.support.runs import DRIFT, FINDING, LATENCY, Run


def test_without_the_flag_other_projects_keep_their_options(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--model')")
    pytester.makepyfile("def test_x(pytestconfig): assert pytestconfig.option.model == 'theirs'")
    result = pytester.runpytest_inprocess("-p", "phasebench.plugin", "--model", "theirs")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*phasebench:*")


def test_help_has_one_line_without_the_flag_and_all_with_it(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "phasebench.plugin", "--help")
    result.stdout.fnmatch_lines(["*--phasebench *"])
    result.stdout.no_fnmatch_line("*--lens-norm*")
    result = pytester.runpytest_inprocess("-p", "phasebench.plugin", "--phasebench", "--help")
    result.stdout.fnmatch_lines(["*--model=*", "*--dataset=*", "*--lens-norm=*", "*--results=*"])


def test_help_begins_with_phasebenchs_options_in_80_columns(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = pytester.runpytest_inprocess("-p", "phasebench.plugin", "--phasebench", "--help").outlines
    first = next(number for number, line in enumerate(lines) if line.endswith(":") and line[0] != " ")
    end = next(number for number, line in enumerate(lines) if line.startswith("positional arguments"))
    assert lines[first] == "phasebench:"
    assert any("--phasebench-cache" in line for line in lines[first:end])
    assert max(map(len, lines[:end])) <= 80


def test_hooks_may_be_implemented_without_the_flag(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_phasebench_models(config): return []")
    pytester.makepyfile("def test_x(): pass")
    pytester.runpytest_inprocess("-p", "phasebench.plugin").assert_outcomes(passed=1)


def test_cases_have_readable_ids(run: Run) -> None:
    result = run("--collect-only", "-q")
    result.stdout.fnmatch_lines(
        [
            "*test_drift[[]tiny-llava-pics-inter[]]",
            "*test_four_phases[[]tiny-llava-pics[]]",
            "*test_latency[[]*-pass[]]",
        ]
    )
    assert result.ret == 0


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (("-k", "phases"), 2),
        (("-m", "finding"), FINDING),
        (("-m", "drift"), DRIFT),
        (("-m", "latency"), LATENCY),
        (("-k", "recall and drift"), 3),
    ],
)
def test_selection_is_pytests_own(run: Run, selection: tuple[str, ...], count: int) -> None:
    result = run("--collect-only", "-q", *selection)
    assert sum("::" in line for line in result.outlines) == count


@pytest.mark.slow
def test_two_models_on_two_datasets(run: Run, pytester: pytest.Pytester) -> None:
    result = run(
        "--model", "tiny-instructblip", "--dataset", "scene-pairs", "--images", "4", "--snapshot-update"
    )
    assert result.ret == 0
    folder = pytester.path / "baselines"
    assert {str(p.relative_to(folder)) for p in folder.glob("*/*")} == {
        f"{model}/{data}" for model in ("tiny-llava", "tiny-instructblip") for data in ("pics", "scene-pairs")
    }


def test_a_model_folder_outside_the_project_does_not_change_the_root(
    run: Run, pytester: pytest.Pytester, cache: Path, tmp_path: Path
) -> None:
    """pytest takes an unknown option's value for a path and would make it the root folder."""
    from phasebench.models.bundled.tiny import make_tiny_model

    folder = Path(shutil.copytree(make_tiny_model("tiny-llava", cache), tmp_path / "far"))
    before = {path.name for path in folder.iterdir()}
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    result = run(model=str(folder))
    result.stdout.fnmatch_lines(
        [f"rootdir: {pytester.path}", "configfile: pytest.ini", f"*phasebench {folder.name}/pics*"]
    )
    assert {path.name for path in folder.iterdir()} == before


def test_own_models_datasets_and_findings(run: Run, pytester: pytest.Pytester, cache: Path) -> None:
    pytester.makeconftest(
        f"""
        from pathlib import Path
        from phasebench.datasets.layouts import read_folder
        from phasebench.datasets.named_datasets import DatasetSpec
        from phasebench.judge.findings.finding import Finding
        from phasebench.judge.findings.verdict import Condition, verdict
        from phasebench.judge.statistics import Estimate
        from phasebench.models.named_models import ModelSpec, TINY_PROMPT_LLAVA
        from phasebench.models.bundled.tiny import make_tiny_model

        def pytest_phasebench_models(config):
            return [ModelSpec("ours", lambda cache: make_tiny_model("tiny-llava", cache), TINY_PROMPT_LLAVA)]

        def pytest_phasebench_datasets(config):
            return [DatasetSpec("our-pics", lambda cache: read_folder(Path({str(pytester.path / "pics")!r})))]

        def positive(evidence):
            value = evidence.curves.mean("total")[1:].min()
            return verdict([Condition("smallest total", Estimate(value, value, value))], "all layers")

        def pytest_phasebench_findings(config):
            return [Finding("attention_is_there", "There is attention.", "here", positive)]
        """
    )
    result = run("-m", "finding", "-k", "own_finding", model="ours", dataset="our-pics")
    result.assert_outcomes(passed=1, deselected=DRIFT + FINDING + LATENCY)
    result.stdout.fnmatch_lines(["*phasebench ours/our-pics*", "attention_is_there*holds*"])


@pytest.mark.parametrize(
    ("hook", "value", "kind"),
    [("models", "'x'", "ModelSpec"), ("datasets", "[1]", "DatasetSpec"), ("findings", "{1: 2}", "Finding")],
)
def test_a_hook_that_returns_something_else_is_named(
    run: Run, pytester: pytest.Pytester, hook: str, value: str, kind: str
) -> None:
    pytester.makeconftest(f"def pytest_phasebench_{hook}(config): return {value}")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pytest_phasebench_{hook}: should return a list of {kind}, not *"])


def test_a_users_case_judges_by_id(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from phasebench import Condition, Estimate, Finding, verdict
        def positive(evidence):
            value = evidence.curves.mean("total")[1:].min()
            return verdict([Condition("smallest total", Estimate(value, value, value))], "all layers")
        def pytest_phasebench_findings(config):
            return [Finding("attention_is_there", "There is attention.", "here", positive)]
        """
    )
    path = pytester.makepyfile(
        """
        def test_own(judge): judge("attention_is_there")
        def test_unknown(judge): judge("nope")
        def test_no_curve(check_drift): check_drift("nope")
        """
    )
    result = run(str(path))
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "judge: there is no finding 'nope'; there are *four_phases*attention_is_there",
            "check_drift: there is no curve 'nope'; there are inter,*",
        ]
    )


def test_a_finding_under_a_taken_id_is_refused(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from phasebench.judge.findings.finding import Finding
        def pytest_phasebench_findings(config):
            return [Finding("four_phases", "x.", "y", None)]
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pytest_phasebench_findings: the ids four_phases are taken*"])


def test_a_finding_whose_id_is_a_path_is_refused(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from phasebench import Finding
        def pytest_phasebench_findings(config):
            return [Finding("../../outside", "x.", "y", None)]
        """
    )
    result = run("--snapshot-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the id '../../outside' has others than letters, digits*"])


@pytest.mark.slow
def test_the_benchmarks_table_fits_80_columns_and_is_omitted_under_q(run: Run) -> None:
    table = [
        line for line in run("--snapshot-update").stdout.lines if "phasebench pass" in line or "pass[" in line
    ]
    assert len(table) == 2
    assert max(map(len, table)) <= 80
    run("-q").stdout.no_fnmatch_line("*benchmark 'phasebench pass'*")
    run("-q", "-m", "latency").stdout.fnmatch_lines(["*benchmark 'phasebench pass'*"])
    run("--benchmark-columns", "max").stdout.no_fnmatch_line("*Median*")


def test_runs_without_pytest_benchmark(run: Run) -> None:
    result = run("-p", "no:benchmark", "--snapshot-update", "--strict-markers")
    result.assert_outcomes(passed=DRIFT + FINDING, skipped=LATENCY)
    assert result.ret == 0


def test_user_files_run_instead_of_the_cases(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile("def test_mine(measurement): assert measurement.curves.last == 6")
    result = run(str(path))
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_only_baselines_are_written_into_the_project(run: Run, pytester: pytest.Pytester) -> None:
    before = {path.name for path in pytester.path.iterdir()}
    run()
    benchmarks = {".benchmarks"}  # pytest-benchmark's own storage
    assert {path.name for path in pytester.path.iterdir()} - benchmarks == before
    run("--snapshot-update")
    assert {path.name for path in pytester.path.iterdir()} - benchmarks == before | {"baselines"}


def test_fixtures_of_the_users_tests_take_precedence(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def measurement():
            return 6

        @pytest.mark.parametrize("curve", ["round"])
        def test_mine(measurement, curve):
            assert (measurement, curve) == (6, "round")
        """
    )
    run(str(path)).assert_outcomes(passed=1)


def test_a_projects_own_patterns_for_tests_do_not_hide_the_cases(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npython_files = check_*.py")
    run("-m", "finding", "--snapshot-update").assert_outcomes(passed=FINDING, deselected=DRIFT + LATENCY)
    pytester.makeini("[pytest]\npython_functions = test_*")
    run("-m", "finding").assert_outcomes(passed=FINDING, deselected=DRIFT + LATENCY)
    pytester.makeini("[pytest]\npython_functions = check_*")
    result = run("-m", "finding")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*python_functions: phasebench's cases are called test_*"])


def test_an_option_that_another_plugin_has_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(other='def pytest_addoption(parser): parser.addoption("--device")')
    result = pytester.runpytest_subprocess("-p", "other", "--phasebench")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--phasebench: *--device*leave it out with -p no:NAME*"])


def test_errors_in_collection_are_not_reported_as_an_interruption(
    run: Run, pytester: pytest.Pytester
) -> None:
    path = pytester.makepyfile("import nothing_of_that_name")
    result = run(str(path))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*interrupted; the images*")


def test_timings_alone_are_green(run: Run, pytester: pytest.Pytester) -> None:
    """A skipped case of the user beside them does not count."""
    path = pytester.makepyfile("import pytest\ndef test_mine(): pytest.skip('not today')")
    cases = str(packaged_folder("cases"))
    assert run(str(path), cases, "-m", "latency or not finding and not drift").ret == 0


def test_a_repeated_case_counts_once(run: Run, recorded: Path, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for report in runtestprotocol(item, log=False, nextitem=nextitem):
                if report.when == "call":
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
            item._initrequest()
            runtestprotocol(item, nextitem=nextitem)
            return True
        """
    )
    result = run("-m", "drift", "--results", "r.json")
    result.stdout.fnmatch_lines([f"*no drift in {DRIFT} curves*"])
    (run_results,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    assert set(run_results["curves"]) == set(CURVES)  # only the first try attached them
