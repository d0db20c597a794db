"""A full or read-only disk: files keep their old content, one line says so, and the run is red."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import Run

pytestmark = pytest.mark.slow

FULL = "No space left on device"


def mount(*arguments: str) -> bool:
    """Whether the command ``mount`` succeeded."""
    command = shutil.which("mount")
    return command is not None and subprocess.run([command, *arguments], check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)):
        pytest.skip("a disk cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def fill(folder: Path) -> None:
    """Write a file until no more fits."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_on_a_full_disk_every_file_keeps_its_content(run: Run, recorded: Path, disk: Path) -> None:
    shutil.copytree(recorded.parents[1], disk / "baselines")
    for name in ("r.json", "r.html"):
        (disk / name).write_text("before")
    fill(disk)
    before = contents(disk)
    outputs = ("--results", f"{disk}/r.json", "--html", f"{disk}/r.html", "--figures", f"{disk}/figures")
    baselines = ("--snapshot-update", "--phasebench-baselines", f"{disk}/baselines")
    result = run("--lens-norm", "off", *baselines, *outputs, "--junitxml", f"{disk}/j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            f"{disk}/baselines/*/max_logit.json could not be written ({FULL}); it is as before",
            "1 curve not written to*",
            f"phasebench: --results {disk}/r.json could not be written: *{FULL}",
            f"phasebench: --html {disk}/r.html could not be written: *{FULL}",
            f"phasebench: --figures {disk}/figures could not be written: *{FULL}",
            f"phasebench: --junitxml {disk}/j.xml could not be written: *{FULL}",
        ]
    )
    result.stdout.no_fnmatch_line("likely cause*")
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    (disk / "j.xml").unlink(missing_ok=True)  # pytest's own file
    assert contents(disk) == before


def test_a_first_recording_is_written_as_far_as_there_is_room(run: Run, disk: Path) -> None:
    """Each file is whole or not there."""
    mount("-o", "remount,size=64k", str(disk))
    result = run("--snapshot-update", "--phasebench-baselines", str(disk), "--junitxml", "j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["failed"] == 1
    files = contents(disk)
    assert files
    assert all(content.endswith(b"}\n") for content in files.values())
    written = {
        prop.get("value")
        for prop in ET.parse("j.xml").iter("property")  # noqa: S314 (written by this test)
        if prop.get("name") == "phasebench.written"
    }
    assert written == {"", f"{disk}/tiny-llava/pics"}


def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_loaded(run: Run, disk: Path) -> None:
    assert mount("-o", "remount,ro", str(disk))
    result = run("--snapshot-update", "--phasebench-baselines", f"{disk}/new")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    line = f"*--snapshot-update: {disk}/new cannot be written; name another folder with *"
    result.stderr.fnmatch_lines([line])
