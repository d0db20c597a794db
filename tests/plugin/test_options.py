"""Options with values that cannot be used: the message names the option and a remedy, before any work."""

from __future__ import annotations

import pytest

from tests.support.runs import Run

USAGE = pytest.ExitCode.USAGE_ERROR
OPTIONS_WITH_TEXT = ("--model", "--dataset", "--store", "--results", "--prompt", "--device")
"""Options that an empty variable of CI may leave empty."""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"model": "smol-lava"},
            "--model smol-lava: unknown model; did you mean smol-llava?; known: *",
        ),
        ({"model": "no/such/folder"}, "--model no/such/folder: no such folder*"),
        (
            {"model": "no/such"},
            "--model such: no/such is not in the local cache*and there is no such folder*",
        ),
        ({"model": "minigpt4"}, "--model minigpt4: convert its official files first*give minigpt4=FOLDER"),
        ({"model": "pics"}, "--model pics: pics/config.json is missing*"),
        ({"dataset": "scene"}, "--dataset scene: unknown dataset; did you mean scenes?; known: scenes*"),
        ({"dataset": "no/such"}, "--dataset no/such: no such folder*"),
        ({"dataset": "gone.jsonl"}, "--dataset gone.jsonl: no such folder or file*"),
        ({"dataset": "pics/val/0.png"}, "--dataset pics/val/0.png: files .png are not read as datasets*"),
        ({"dataset": "pics/annotations"}, "--dataset annotations: *may be in *captions_val.json: give*"),
    ],
)
def test_unknown_names(run: Run, args: dict[str, str], message: str) -> None:
    result = run(**args)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*{message}"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("--images", "0"), ("--batch-size", "none"), ("--dtype", "int8"), ("--lens-norm", "maybe")],
)
def test_values_that_argparse_refuses(run: Run, option: str, value: str) -> None:
    result = run(option, value)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*argument {option}: *"])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--images", "many", "*argument --images: must be a whole number of at least 1, not 'many'"),
        ("--effect", "large", "*argument --effect: must be a number of at least 0, not 'large'"),
        ("--device", "gpu", "*--device gpu: *"),
        ("--device", "meta", "*--device meta: its tensors have no values; name cpu or an accelerator"),
        ("--max-memory", "0=20XB", "*--max-memory 0=20XB: give DEVICE=SIZE*"),
        ("--max-memory", "cpu=2GB,cpu=1GB", "*--max-memory cpu=2GB,cpu=1GB: cpu is named twice"),
        ("--max-memory", "99=2GB", "*--max-memory 99=2GB: accelerator 99 is not among the *"),
        ("--html", "r.json", "*--html r.json: --results writes to the same path; name another file"),
        *((name, "", f"*argument {name}: is empty; leave the option out*") for name in OPTIONS_WITH_TEXT),
    ],
)
def test_a_wrong_value_is_explained_before_anything_is_loaded(
    run: Run, option: str, value: str, message: str
) -> None:
    result = run(option, value, "--results", "r.json")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*loading*")


@pytest.mark.parametrize(
    ("argument", "option"),
    [("--imagse", "--images"), ("--modle=x", "--model"), ("--snapshot-upate", "--snapshot-update")],
)
def test_a_mistyped_option_is_reported_with_the_nearest_one(argument: str, option: str, run: Run) -> None:
    result = run(argument)
    assert result.ret == USAGE
    name = argument.partition("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: {name}: there is no such option; did you mean {option}?*"])


@pytest.mark.parametrize("arguments", [("-n", "2"), ("-n2",), ("--numprocesses=2",)])
def test_several_processes_without_pytest_xdist_name_the_extra(arguments: tuple[str, ...], run: Run) -> None:
    result = run("-p", "no:xdist", *arguments)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["ERROR: -*: several processes need * pip install 'phasebench[[]xdist]'"])


def test_pytest_refuses_an_unknown_option_that_resembles_none(run: Run) -> None:
    result = run("--frobnicate")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*unrecognized arguments: --frobnicate*"])


def test_a_mistyped_option_does_not_hide_the_help(run: Run) -> None:
    result = run("--imagse", "--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--images=N *"])


def test_an_option_of_the_users_conftest_is_accepted(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--imagse')")
    assert run("--imagse", "3", "--co").ret == 0
