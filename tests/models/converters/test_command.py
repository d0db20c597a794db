"""Registering the converted models with transformers, and the command ``convert``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
)

from phasebench.__main__ import main
from phasebench.models import converters
from tests.models.converters.official_models import OfficialModel, for_model
from tests.support import official_files as files


def test_registering_twice_does_nothing() -> None:
    converters.register()
    before = AutoModelForImageTextToText._model_mapping._extra_content.copy()
    converters.register()
    assert AutoModelForImageTextToText._model_mapping._extra_content == before
    assert AutoConfig.for_model("minigpt_v2").model_type == "minigpt_v2"
    assert AutoConfig.for_model("limber").model_type == "limber"


def test_importing_the_package_imports_no_model() -> None:
    code = "import sys, phasebench.__main__; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llava"}', None])
def test_other_folders_register_nothing(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converters, "register", lambda: pytest.fail("registered"))
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    converters.register_for(tmp_path)


@for_model("limber")
def test_the_command_converts(official: OfficialModel, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "convert", "limber",
        "--vision-model", str(official.path("beit")), "--language-model", str(official.path("gptj")),
        "--projection", str(official.path("proj.ckpt")), "--out", str(official.path("out")),
    ]  # fmt: skip
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert f"--model limber={official.path('out')}" in output
    assert "'<image>A picture of'" in output
    assert main(arguments) == 2
    assert f"limber: {official.path('out')} exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["minigpt4", "minigpt-v2"])
def test_the_command_names_the_file_at_fault(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.llama_folder(tmp_path / "llama")
    options = {"vit": "eva.pth", "language-model": "llama", "checkpoint": "c.pth", "out": "out"}
    if name == "minigpt4":
        options["qformer"] = "q.pth"
    arguments = [text for option, file in options.items() for text in (f"--{option}", str(tmp_path / file))]
    capsys.readouterr()  # progress bars of the files written above
    assert main(["convert", name, *arguments]) == 2
    assert capsys.readouterr().err == f"{name}: {tmp_path / 'eva.pth'}: no such file\n"


def test_the_command_asks_for_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "minigpt4"])
    output = capsys.readouterr().err
    assert "--vit, --qformer, --language-model, --checkpoint, --out" in output
