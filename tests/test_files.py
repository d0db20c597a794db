"""The cache folder: what is made in it is made once, and whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phasebench.commands.store import store_folders
from phasebench.errors import InputError
from phasebench.files import made_once


def test_a_folder_is_made_once_and_whole(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "a").write_text("x")

    for _ in range(2):
        assert (made_once(tmp_path / "made", make) / "a").read_text() == "x"
    assert len(calls) == 1


def test_a_cache_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into the cache folder .*--phasebench-cache"):
        made_once(tmp_path / "file" / "x", lambda _: None)


def test_a_failed_making_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "made", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_makers_at_once_one_wins(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "mine").touch()
        if not (tmp_path / "made").exists():
            (tmp_path / "made").mkdir()
            (tmp_path / "made" / "theirs").touch()

    assert [path.name for path in made_once(tmp_path / "made", make).iterdir()] == ["theirs"]


def test_the_store_can_be_listed_while_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written beside its name and renamed: what was listed may be gone when it is looked at."""
    (tmp_path / "key").mkdir()
    for name in ("about.json", "1.npz", ".2.npz.partial"):
        (tmp_path / "key" / name).write_text("[]")
    stat = Path.stat

    def gone(path: Path, **told: bool) -> os.stat_result:
        if path.suffix == ".partial":
            raise FileNotFoundError(path)
        return stat(path, **told)

    monkeypatch.setattr(Path, "stat", gone)
    (kept,) = store_folders(tmp_path)
    assert (kept.images, kept.size, kept.about) == (1, 4, {})
