"""The store of rows: a row is kept whole or not at all, is never wrong, and is read back exactly."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phasebench.__main__ import main
from phasebench.datasets.sample import Sample
from phasebench.measurement import batches
from phasebench.measurement.measure import Measurement, measure
from phasebench.measurement.packing import pack, unpack
from phasebench.measurement.passes import Row, probed_pass
from phasebench.measurement.row_store import Store
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings
from tests.support.runs import Run


def run_on(loaded: LoadedModel, samples: list[Sample], store: Path | None, **settings: Any) -> Measurement:
    return measure(loaded, "pics", samples, Settings(store=store, **settings), lambda *_: None)


def rows_in(store: Path) -> list[Path]:
    return sorted(store.glob("*/*.npz"))


def are_bit_identical(a: Measurement, b: Measurement) -> bool:
    """Whether curves, controls, heatmap and examples are the same, bit for bit."""
    assert a.heatmap is not None
    assert b.heatmap is not None
    return (
        a.curves.table.equals(b.curves.table)
        and all(a.controls[name].table.equals(b.controls[name].table) for name in a.controls)
        and np.array_equal(a.heatmap, b.heatmap)
        and all(
            np.array_equal(example.norms, b.examples[name].norms) and example.words == b.examples[name].words
            for name, example in a.examples.items()
        )
    )


def pass_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass takes from now on."""
    native, sizes = probed_pass, list[int]()

    def counting(anatomy: Any, inputs: Any, **kwargs: Any) -> list[Row]:
        sizes.append(len(inputs["input_ids"]))
        return native(anatomy, inputs, **kwargs)

    monkeypatch.setattr(batches, "probed_pass", counting)
    return sizes


@pytest.mark.parametrize("size", [1, 2])
def test_an_interrupted_run_resumes_where_it_stopped(
    tiny: LoadedModel, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = run_on(tiny, samples, None, batch_size=size)
    store = tmp_path / "store"

    def stop(update: batches.ProgressUpdate) -> None:
        if update.images >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tiny, "pics", samples, Settings(store=store, batch_size=size), stop)
    sizes = pass_sizes(monkeypatch)
    resumed = run_on(tiny, samples, store, batch_size=size)
    assert sum(sizes) == 5 - 2 + 1  # and the blank one
    assert resumed.stored == 2
    assert len(resumed.seconds) == 3
    assert are_bit_identical(whole, resumed)


def test_controls_are_stored_too(
    tiny: LoadedModel, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_on(tiny, samples, tmp_path / "store", controls=True)
    sizes = pass_sizes(monkeypatch)
    again = run_on(tiny, samples, tmp_path / "store", controls=True)
    assert sizes == []
    assert again.seconds == []
    assert are_bit_identical(first, again)
    assert not first.curves.table.equals(first.controls["projector"].table)


@pytest.mark.parametrize("changed", [{"lens_norm": False}, {"normed_last_layer": True}, {"batch_size": 5}])
def test_other_settings_are_other_rows(
    tiny_llava: LoadedModel,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
) -> None:
    run_on(tiny_llava, samples, tmp_path / "store")
    sizes = pass_sizes(monkeypatch)
    run_on(tiny_llava, samples, tmp_path / "store", **changed)
    assert sum(sizes) >= 5


def test_another_data_set_shares_the_images_it_has_in_common(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_on(tiny_llava, samples[:3], tmp_path / "store")
    sizes = pass_sizes(monkeypatch)
    assert run_on(tiny_llava, samples, tmp_path / "store").stored == 3
    assert sum(sizes) == 2


def test_fresh_measures_and_stores_everything(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = run_on(tiny_llava, samples, store)
    before = {path: path.stat().st_mtime_ns for path in rows_in(store)}
    again = run_on(tiny_llava, samples, store, fresh=True)
    assert (again.stored, len(again.seconds)) == (0, 5)
    assert are_bit_identical(first, again)
    assert all(path.stat().st_mtime_ns > before[path] for path in rows_in(store))


@pytest.mark.parametrize("fresh", [True, False])
def test_rows_measured_for_one_dataset_are_not_called_stored_for_the_next(
    tiny_llava: LoadedModel,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: bool,
) -> None:
    settings, run_rows = Settings(store=tmp_path / "store", fresh=fresh), set[str]()
    sizes = pass_sizes(monkeypatch)
    measure(tiny_llava, "pics", samples, settings, lambda *_: None, run_rows)
    again = measure(tiny_llava, "some of them", samples[:3], settings, lambda *_: None, run_rows)
    assert sum(sizes) == 5 + 1
    assert again.stored == 0
    assert len(again.seconds) == 3


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_bit, truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_costs_its_image_and_is_noted(
    tiny_llava: LoadedModel,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    store = tmp_path / "store"
    first = run_on(tiny_llava, samples, store)
    damage(rows_in(store)[2])
    sizes = pass_sizes(monkeypatch)
    again = run_on(tiny_llava, samples, store)
    assert sizes == [1]
    assert are_bit_identical(first, again)
    (note,) = again.notes
    assert note.startswith("1 damaged files in the store, their images measured again")
    assert run_on(tiny_llava, samples, store).notes == []


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk with room for few rows."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True)  # noqa: S607
    if mounted.returncode:
        pytest.skip("no right to mount a small disk; the limited file size below is the same path")
    try:
        yield folder / "store"
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607
        folder.rmdir()


@contextmanager
def small_files() -> Iterator[Path]:
    """No file may be larger than a kilobyte."""
    folder = Path(tempfile.mkdtemp())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        shutil.rmtree(folder)


@contextmanager
def read_only() -> Iterator[Path]:
    """A folder that is not ours to write to, even for the superuser who runs the tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder / "store"
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("disk", "reason"),
    [(small_disk, "No space left"), (small_files, "File too large")],
)
def test_a_full_disk_does_not_end_the_run(
    tiny_llava: LoadedModel, samples: list[Sample], disk: Callable[[], Any], reason: str
) -> None:
    whole = run_on(tiny_llava, samples, None)
    with disk() as store:
        measurement = run_on(tiny_llava, samples, store)
        (note,) = measurement.notes
        assert note.startswith(f"images are not kept for another run: {reason}")
        assert are_bit_identical(whole, measurement)
        if store.is_dir():
            assert not [path for path in store.rglob("*.partial") if not path.name.startswith(".about.json")]
            assert all(unpack(path.read_bytes()) for path in rows_in(store))


def test_a_read_only_folder_keeps_nothing_and_the_trouble_says_so(row: Row) -> None:
    with read_only() as folder:
        store = Store(folder, {})
        returned = store.put("name", row)
        assert store.get("name") is None
    assert np.array_equal(returned.tokens, row.tokens)
    assert store.trouble is not None
    assert store.trouble.startswith("Permission denied")


def test_a_row_that_cannot_be_written_is_read_from_memory_where_rows_are_carried(row: Row) -> None:
    """The first of several processes measures its share before it reads all rows."""
    with read_only() as folder:
        store = Store(folder, {}, carry=True)
        store.put("name", row)
        read = store.get("name")
    assert read is not None
    assert np.array_equal(read.tokens, row.tokens)
    assert not read.from_store


def test_a_store_path_that_is_a_file_is_refused_before_anything_is_loaded(
    run: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "file").touch()
    result = run(store=pytester.path / "file")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--store */file: is a file; name a folder"])


def curves_of(results: Path) -> Any:
    (entry,) = json.loads(results.read_text())["runs"]
    return {key: entry[key] for key in ("curves", "controls", "heatmap", "heatmaps", "words", "provenance")}


def test_a_second_run_measures_nothing_and_has_the_same_results(run: Run, pytester: pytest.Pytester) -> None:
    store = pytester.path / "store"
    run("--snapshot-update", "--results", "a.json", store=store)
    again = run("--results", "b.json", "-rs", store=store)
    assert again.ret == 0
    again.stdout.fnmatch_lines(
        ["*4 images from the store (--fresh measures them again)*", "*--fresh measures and times them again*"]
    )
    assert curves_of(pytester.path / "a.json") == curves_of(pytester.path / "b.json")
    fresh = run("--fresh", store=store)
    fresh.stdout.no_fnmatch_line("*from the store*")
    assert fresh.ret == 0


def interrupt(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    """Ctrl-C just before a pass."""
    native, passes = probed_pass, list[int]()

    def interrupted(*args: Any, **kwargs: Any) -> list[Row]:
        passes.append(1)
        if len(passes) == before:
            raise KeyboardInterrupt
        return native(*args, **kwargs)

    monkeypatch.setattr(batches, "probed_pass", interrupted)


def test_after_ctrl_c_the_summary_says_how_many_images_are_stored(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, before=3)
    store = pytester.path / "store"
    stopped = run("--snapshot-update", "--html", "r.html", store=store, no_reraise_ctrlc=True)
    assert stopped.ret == pytest.ExitCode.INTERRUPTED
    stopped.stdout.fnmatch_lines(
        [
            f"phasebench: interrupted; of tiny-llava on pics 2 of 4 images are measured and kept in {store}; "
            "the same command resumes from there",
            "phasebench: --html r.html is not written: no case was finished",
        ]
    )
    assert not (pytester.path / "r.html").exists()
    resumed = run("--snapshot-update", store=store)
    assert resumed.ret == 0
    resumed.stdout.fnmatch_lines(["*2 images from the store*"])


def test_after_ctrl_c_rows_that_could_not_be_written_are_not_called_stored(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("phasebench.measurement.row_store.write_whole", full)
    interrupt(monkeypatch, before=3)
    stopped = run(store=pytester.path / "store", no_reraise_ctrlc=True)
    stopped.stdout.fnmatch_lines(
        ["*; of tiny-llava on pics 2 of 4 images are measured, not all of them kept: No space left on *"]
    )
    stopped.stdout.no_fnmatch_line("*resumes from there*")


def test_the_store_is_listed_and_cleaned(
    tiny: LoadedModel, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    run_on(tiny, samples, root)
    assert main(["store", "--store", str(root)]) == 0
    output = capsys.readouterr().out
    assert tiny.name in output
    assert "6 rows" in output  # five images and the blank one
    assert main(["store", "--store", str(root), "--clean", "--older-than", "1"]) == 0
    assert main(["store", "--store", str(root), "--clean", "--model", "another"]) == 0
    assert len(rows_in(root)) == 6
    assert main(["store", "--store", str(root), "--clean", "--model", tiny.name]) == 0
    assert list(root.iterdir()) == []
    assert main(["store", "--store", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_rows_of_a_model_without_a_checkpoint_digest_are_not_stored(
    tiny_llava: LoadedModel, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_llava, "checkpoint", "")
    run_on(tiny_llava, samples, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_without_a_folder_keeps_only_rows_of_other_processes(row: Row) -> None:
    store = Store(None, {})
    store.put("own", row)
    store.adopt("other", pack(row), new=True)
    store.adopt("older", pack(row), new=False)
    rows = {name: store.get(name) for name in ("own", "other", "older")}
    assert {name: other and other.from_store for name, other in rows.items()} == {
        "own": None, "other": False, "older": True,
    }  # fmt: skip


def test_rows_from_the_store_are_carried_like_those_that_were_measured(row: Row, tmp_path: Path) -> None:
    Store(tmp_path, {}).put("before", row)
    store = Store(tmp_path, {}, carry=True)
    store.get("before")
    store.put("now", row)
    store.get("never")
    assert {name: new for name, (_, new) in store.carried.items()} == {"before": False, "now": True}
