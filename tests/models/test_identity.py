"""The digest of a checkpoint changes with its files, and large unchanged files are read once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from phasebench.models import identity
from phasebench.models.identity import MEMORY, PendingDigest, checkpoint_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with two shards of 300 bytes."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for shard in range(2):
        (folder / f"{shard}.safetensors").write_bytes(bytes([shard]) * 300)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The pieces that were read: names of files and starts; a piece has 128 bytes."""
    pieces: list[tuple[str, int]] = []
    native = identity._hash_piece

    def noted(path: Path, start: int) -> bytes:
        pieces.append((path.name, start))
        return native(path, start)

    monkeypatch.setattr(identity, "_hash_piece", noted)
    monkeypatch.setattr(identity, "PIECE", 128)
    return pieces


def digest(folder: Path, cache: Path | None = None) -> str:
    return checkpoint_digest(folder, sorted(folder.glob("*.safetensors")), cache)


def test_each_piece_is_read_once(folder: Path, read: list[tuple[str, int]]) -> None:
    assert len(digest(folder)) == 16
    shards = [(f"{shard}.safetensors", start) for shard in range(2) for start in (0, 128, 256)]
    assert sorted(read) == [*shards, ("config.json", 0)]


@pytest.mark.parametrize("changed", ["config.json", "1.safetensors", "modeling.py", "adapter_config.json"])
def test_it_changes_with_any_file_that_counts(folder: Path, changed: str) -> None:
    before = digest(folder)
    (folder / changed).write_bytes(b"{ }")
    assert digest(folder) != before


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json"])
def test_other_files_do_not_count(folder: Path, name: str) -> None:
    before = digest(folder)
    (folder / name).write_text("hello")
    assert digest(folder) == before


def test_swapped_pieces_are_another_checkpoint(folder: Path, read: list[tuple[str, int]]) -> None:
    shard = folder / "0.safetensors"
    shard.write_bytes(b"a" * 128 + b"b" * 128)
    before = digest(folder)
    shard.write_bytes(b"b" * 128 + b"a" * 128)
    assert digest(folder) != before


def test_large_unchanged_files_are_not_read_again(
    folder: Path, tmp_path: Path, read: list[tuple[str, int]]
) -> None:
    first = digest(folder, tmp_path)
    read.clear()
    assert digest(folder, tmp_path) == first
    assert read == [("config.json", 0)]


def test_a_changed_file_is_read_again_though_its_time_says_otherwise(
    folder: Path, tmp_path: Path, read: list[tuple[str, int]]
) -> None:
    shard = folder / "1.safetensors"
    first, stat = digest(folder, tmp_path), shard.stat()
    read.clear()
    shard.write_bytes(b"x" * 300)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest(folder, tmp_path) != first
    assert {name for name, _ in read} == {"config.json", "1.safetensors"}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": '])
def test_a_damaged_memory_is_made_anew(
    folder: Path, tmp_path: Path, read: list[tuple[str, int]], content: str
) -> None:
    (tmp_path / MEMORY).write_text(content)
    assert digest(folder, tmp_path) == digest(folder)
    assert len(json.loads((tmp_path / MEMORY).read_text())) == 2


def test_files_that_are_gone_are_forgotten(folder: Path, tmp_path: Path, read: list[tuple[str, int]]) -> None:
    digest(folder, tmp_path)
    (folder / "0.safetensors").unlink()
    (folder / "2.safetensors").write_bytes(bytes(300))
    digest(folder, tmp_path)
    names = {Path(path).name for path in json.loads((tmp_path / MEMORY).read_text())}
    assert names == {"1.safetensors", "2.safetensors"}


def test_after_an_error_no_more_pieces_are_read(
    folder: Path, read: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "THREADS", 1)
    (folder / "0.safetensors").write_bytes(bytes(128 * 5000))
    with pytest.raises(ValueError, match="broken"), PendingDigest(folder, [folder / "0.safetensors"]):
        raise ValueError("broken")
    assert len(read) < 5000
