"""Projects with plugins, options, fixtures and settings of their own hold, or a line says what is wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phasebench.files import cache_folder
from phasebench.plugin.fixtures import _blocking
from phasebench.plugin.options import same_option_message
from tests.support.runs import LATENCY, Run

pytestmark = pytest.mark.slow


def error_line(result: pytest.RunResult) -> str:
    """The one line of a run that ended before it began."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = [*result.outlines, *result.errlines]
    assert not any("Traceback" in line for line in output)
    (line,) = [line for line in output if line.startswith("ERROR")]
    return line


@pytest.mark.parametrize("option", ["--model", "--device", "--seed"])
def test_an_option_of_the_projects_conftest_is_named(
    run: Run, pytester: pytest.Pytester, option: str
) -> None:
    pytester.makeconftest(f"def pytest_addoption(parser): parser.addoption({option!r})")
    line = error_line(run())
    assert f"conftest.py: its option {option} is one of phasebench's too" in line
    assert "--noconftest" in line


def test_another_error_of_a_conftest_is_not_taken_for_it() -> None:
    assert same_option_message(ValueError("invalid literal for int()")) == ""


@pytest.mark.parametrize("name", ["loaded", "measurement", "snapshot"])
def test_a_fixture_of_the_project_that_replaces_ours_is_named(
    run: Run, pytester: pytest.Pytester, name: str
) -> None:
    pytester.makeconftest(f"import pytest\n@pytest.fixture(scope='session')\ndef {name}(): return 1")
    assert f"its fixture {name!r} replaces the one of" in error_line(run())


def test_syrupy_cannot_be_left_out(run: Run) -> None:
    assert "leave out -p no:syrupy" in error_line(run("-p", "no:syrupy"))


def test_syrupy_is_loaded_where_plugins_are_not(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)
    assert run("--snapshot-update", "-m", "drift").ret == 0
    assert (pytester.path / "baselines" / "tiny-llava" / "pics" / "inter.json").is_file()


def test_benchmark_only_runs_the_latency_cases(run: Run) -> None:
    result = run("--benchmark-only")
    result.assert_outcomes(passed=LATENCY, skipped=result.parseoutcomes()["skipped"])
    assert result.ret == 0


def test_codspeed_gets_no_settings_it_refuses(run: Run, pytester: pytest.Pytester) -> None:
    """A stand-in: it declares the option and refuses settings as pytest-codspeed does."""
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--codspeed', action='store_true')\n"
        "def pytest_runtest_setup(item):\n"
        "    marker = item.get_closest_marker('benchmark')\n"
        "    assert not (marker and marker.kwargs), 'Unknown kwargs passed to benchmark marker'\n"
    )
    result = run("--codspeed", "-m", "latency", "-rs")
    result.assert_outcomes(skipped=LATENCY, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*pytest-codspeed times by itself*"])


@pytest.mark.parametrize("value", ["folder", "=folder"])
def test_addopts_hold_whatever_an_options_value_is(
    run: Run, pytester: pytest.Pytester, tmp_path: Path, value: str
) -> None:
    """A folder outside as the value of an option is taken for a path by pytest, and so for its root."""
    pytester.makeini("[pytest]\naddopts = --strict-baselines -k inter")
    option = [f"--results={tmp_path / 'r.json'}"] if "=" in value else ["--results", str(tmp_path / "r.json")]
    (tmp_path / "r.json").write_text("{}")
    result = run(*option)
    result.stdout.fnmatch_lines(["*nothing is recorded for tiny-llava/pics*"])
    assert result.parseoutcomes()["deselected"] > 0


def test_addopts_that_name_the_projects_tests_do_not_replace_the_cases(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\naddopts = own_tests")
    (pytester.path / "own_tests").mkdir()
    (pytester.path / "own_tests" / "test_own.py").write_text("def test_own(): pass")
    result = run("--snapshot-update", "-m", "drift")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["* curves written to baselines*"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_home_folder(
    run: Run, home: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--results=~/r.json", "-m", "drift")
    assert (home / "r.json").is_file()
    assert not (pytester.path / "~").exists()
    monkeypatch.setenv("PHASEBENCH_CACHE", "~/cache")
    assert cache_folder() == home / "cache"


def test_a_measurement_cut_off_by_pytest_timeout_is_reported_once() -> None:
    """pytest-timeout fails whatever runs when the time is over; all cases share the measurement."""
    run: Any = SimpleNamespace(blocks={}, case="first")
    message = r"stopped: Timeout.*--timeout 0 takes the limit away"
    blocking = _blocking(run, "m/d", "m on d", "m on d could not be measured")
    with pytest.raises(pytest.fail.Exception, match=message), blocking:
        pytest.fail("Timeout (>1.0s) from pytest-timeout.")
    assert run.blocks["m/d"].reason == "m on d could not be measured"
