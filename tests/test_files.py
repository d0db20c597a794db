"""Making folders in the cache: once, and completely or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from phasebench.commands.store import store_folders
from phasebench.errors import InputError
from phasebench.files import make_folder_once


def test_a_folder_is_made_once_and_completely(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "a").write_text("x")

    for _ in range(2):
        assert (make_folder_once(tmp_path / "made", make) / "a").read_text() == "x"
    assert len(calls) == 1


def test_an_unwritable_cache_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into the cache folder .*PHASEBENCH_CACHE") as caught:
        make_folder_once(tmp_path / "file" / "x", lambda _: None)
    assert caught.value.remedy == "cache"


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_folder_once(tmp_path / "made", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_at_once_one_wins(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "mine").touch()
        if not (tmp_path / "made").exists():
            (tmp_path / "made").mkdir()
            (tmp_path / "made" / "theirs").touch()

    assert [path.name for path in make_folder_once(tmp_path / "made", make).iterdir()] == ["theirs"]


def test_the_store_can_be_listed_while_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written under another name and renamed, so a listed file may be gone a moment later."""
    (tmp_path / "key").mkdir()
    for name in ("about.json", "1.npz", ".2.npz.partial"):
        (tmp_path / "key" / name).write_text("[]")
    stat = Path.stat

    def vanished(path: Path, **kwargs: bool) -> os.stat_result:
        if path.suffix == ".partial":
            raise FileNotFoundError(path)
        return stat(path, **kwargs)

    monkeypatch.setattr(Path, "stat", vanished)
    (folder,) = store_folders(tmp_path)
    assert (folder.images, folder.size, folder.about) == (1, 4, {})


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, FULL), RuntimeError(f"I/O error: {FULL}")])
def test_a_full_disk_is_an_input_error_and_leaves_no_folder(tmp_path: Path, error: Exception) -> None:
    def make(_: Path) -> None:
        raise error

    with pytest.raises(InputError, match=rf"cannot write into the cache folder .* {FULL}"):
        make_folder_once(tmp_path / "x", make)
    assert list(tmp_path.iterdir()) == []
