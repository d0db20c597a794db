"""--snapshot-update writes what it measured, and never deletes or rewrites anything else.

The command lines are those that would lose baselines if syrupy discovered files.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from phasebench.catalog import CURVES
from phasebench.files import packaged_folder
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.plugin.snapshot import BaselineExtension
from tests.plugin.test_against import change, shift
from tests.support.pictures import write_pictures
from tests.support.runs import DRIFT, FINDING, LATENCY, Run

pytestmark = pytest.mark.slow

BOTH = ("--model", "tiny-instructblip", "--dataset", "more")


def file_contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baselines that ``recorded`` copies; the first test writes them."""
    return tmp_path_factory.mktemp("template") / "baselines"


@pytest.fixture
def recorded(run: Run, pytester: pytest.Pytester, template: Path) -> Path:
    """Baselines of two models on two datasets, with files of the user among them."""
    write_pictures(pytester.path / "more", 3)
    folder = pytester.path / "baselines"
    if not template.exists():
        assert run(*BOTH, "--snapshot-update").ret == 0
        (folder / "tiny-llava" / "pics" / "README.md").write_text("ours")
        (folder / "notes.json").write_text("{}")
        folder.rename(template)
    return Path(shutil.copytree(template, folder))


CASES = str(packaged_folder("cases"))

OPTIONS = [
    (),
    BOTH,
    (*BOTH, "-k", "attention"),
    (*BOTH, CASES),
    (*BOTH, f"{CASES}/test_drift.py::test_drift[tiny-llava-pics-inter]"),
    (*BOTH, "-k", "inter"),
    (*BOTH, "-m", "finding"),
    (*BOTH, "-m", "drift"),
    (*BOTH, "-k", "tiny-llava"),
    (*BOTH, "--deselect", "test_drift.py"),
    (*BOTH, "-x"),
    (*BOTH, "-n", "2"),
    ("-n", "2"),
    (*BOTH, "--images", "2", "-k", "nothing_of_the_kind"),
    (*BOTH, "--snapshot-update-new-only"),
    (*BOTH, "--snapshot-no-cleanup"),
    (*BOTH, "--collect-only"),
]


@pytest.fixture(scope="module")
def store(template: Path) -> Path:
    """Rows that runs share whose measuring is not what is tested."""
    return template.parent / "store"


@pytest.mark.parametrize(
    ("options", "update"),
    # Workers take long to start, and a plain run of theirs writes as little as any other.
    [(options, update) for options in OPTIONS for update in (False, True) if update or "-n" not in options],
    ids=str,
)
def test_baselines_without_a_change_are_not_rewritten(
    run: Run, recorded: Path, store: Path, options: tuple[str, ...], update: bool
) -> None:
    before = file_contents(recorded)
    result = run(*options, *(["--snapshot-update"] if update else []), store=store)
    has_no_case = "nothing_of_the_kind" in options
    assert result.ret == (pytest.ExitCode.NO_TESTS_COLLECTED if has_no_case else pytest.ExitCode.OK)
    assert file_contents(recorded) == before


@pytest.mark.parametrize("extra", [(), ("-x",), ("-n", "2")], ids=["all", "-x", "-n 2"])
def test_a_model_that_fails_keeps_its_baselines(
    run: Run, recorded: Path, pytester: pytest.Pytester, cache: Path, store: Path, extra: tuple[str, ...]
) -> None:
    broken = Path(shutil.copytree(make_tiny_model("tiny-llava", cache), pytester.path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = file_contents(recorded)
    assert run(*BOTH, "--snapshot-update", *extra, model=f"tiny-llava={broken}", store=store).ret != 0
    after = file_contents(recorded)
    assert set(after) == set(before)
    assert {name: after[name] for name in after if "tiny-llava/" in name} == {
        name: before[name] for name in before if "tiny-llava/" in name
    }


def test_only_drifted_baselines_are_rewritten(run: Run, recorded: Path) -> None:
    path = recorded / "tiny-llava" / "pics" / "inter.json"
    change(path, shift(0.5))
    before = file_contents(recorded)
    run(*BOTH).assert_outcomes(passed=4 * (DRIFT + FINDING + LATENCY) - 1, failed=1)
    assert file_contents(recorded) == before
    assert run(*BOTH, "--snapshot-update").ret == 0
    changed_files = {name for name, content in file_contents(recorded).items() if content != before[name]}
    assert changed_files == {"tiny-llava/pics/inter.json"}
    assert run(*BOTH).ret == 0


def recorded_images(folder: Path) -> set[int]:
    """The numbers of images that the baselines of tiny-llava on pics are from, verdicts included."""
    records = [json.loads(path.read_text()) for path in (folder / "tiny-llava" / "pics").rglob("*.json")]
    return {record["provenance"]["images"] for record in records}


def test_more_images_are_recorded_without_drift(run: Run, pytester: pytest.Pytester) -> None:
    """Fewer images are not recorded."""
    folder = pytester.path / "baselines"
    assert run("--images", "3", "--snapshot-update").ret == 0
    assert recorded_images(folder) == {3}
    result = run("--images", "4", "--snapshot-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["* curves and * verdicts written to baselines/tiny-llava/pics"])
    result.stdout.no_fnmatch_line("no drift in *")
    assert recorded_images(folder) == {4}
    before = file_contents(folder)
    result = run("--images", "3", "--snapshot-update", "-m", "drift")
    result.stdout.fnmatch_lines(["no baseline written: recorded on 4 images, measured on 3"])
    for options in (("--images", "3", "--snapshot-update"), ("--snapshot-update-new-only",), ()):
        assert (
            run(*options, "-m", "drift").ret == 0
        )  # not the verdicts: fewer images may change and fail them
        assert file_contents(folder) == before


def test_fewer_images_do_not_replace_more(run: Run, recorded: Path) -> None:
    """The other baselines would then be of another checkpoint, and the next complete run red."""
    path = recorded / "tiny-llava" / "pics" / "inter.json"
    change(path, shift(0.5))
    before = file_contents(recorded)
    result = run("--images", "3", "-m", "drift", "--snapshot-update")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["differs from its baseline, but recorded on 4 images, measured on 3: *"])
    assert file_contents(recorded) == before


def test_other_images_are_recorded_without_drift(run: Run, recorded: Path) -> None:
    before = file_contents(recorded)
    shutil.rmtree(recorded.parent / "pics")
    folder = write_pictures(recorded.parent / "pics", 4, seed=1)
    annotations = folder / "annotations" / "captions_val.json"
    for number in range(4):
        (folder / "val" / f"{number}.png").rename(folder / "val" / f"other{number}.png")
    text = annotations.read_text(encoding="utf-8")
    annotations.write_text(re.sub(r'"(\d)\.png"', r'"other\1.png"', text), encoding="utf-8")
    assert run("-m", "drift").ret == 0
    assert file_contents(recorded) == before
    assert run("-m", "drift", "--snapshot-update").ret == 0
    changed_files = {name for name, content in file_contents(recorded).items() if content != before[name]}
    assert changed_files == {f"tiny-llava/pics/{curve}.json" for curve in CURVES}


def test_other_pictures_under_the_recorded_names_are_a_drift(run: Run, recorded: Path) -> None:
    shutil.rmtree(recorded.parent / "pics")
    write_pictures(recorded.parent / "pics", 4, seed=1)
    result = run("-m", "drift")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*4 of 4 pictures have other pixels than recorded*",
            "likely cause: the data set's pictures, or how*",
        ]
    )


def test_new_only_writes_missing_baselines(run: Run, recorded: Path) -> None:
    path = recorded / "tiny-llava" / "pics" / "inter.json"
    text = path.read_bytes()
    path.unlink()
    assert run("--snapshot-update-new-only").ret == 0
    assert path.read_bytes() == text


def test_the_folder_of_baselines_is_an_option_and_an_ini_key(run: Run, pytester: pytest.Pytester) -> None:
    assert run("--snapshot-update", "--phasebench-baselines", "kept", "-m", "drift").ret == 0
    assert (pytester.path / "kept" / "tiny-llava" / "pics" / "inter.json").is_file()
    assert not (pytester.path / "baselines").exists()
    pytester.makeini("[pytest]\nphasebench_baselines = kept\n")
    run("-m", "drift").assert_outcomes(passed=DRIFT, deselected=FINDING + LATENCY)


def test_packaged_baselines_are_read_but_never_written(
    run: Run, recorded: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = recorded.rename(pytester.path / "packaged")
    shutil.copy(packaged_folder("baselines") / "tolerances.json", packaged)
    monkeypatch.setattr(
        "phasebench.plugin.session.packaged_folder",
        lambda name: packaged if name == "baselines" else packaged_folder(name),
    )
    before = file_contents(packaged)
    assert run().ret == 0
    path = packaged / "tiny-llava" / "pics" / "inter.json"
    change(path, shift(0.5))
    before = file_contents(packaged)
    assert run("--snapshot-update").ret == 0
    assert file_contents(packaged) == before
    assert [p.name for p in (pytester.path / "baselines").rglob("*.json")] == ["inter.json"]
    assert run().ret == 0


def test_syrupy_before_7_does_not_warn_of_where_a_file_is(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the test's location instead of the extension, whether a file belongs to a test."""
    monkeypatch.setattr(BaselineExtension, "matches_test_location", lambda **_: False)
    result = run("-W", "error::UserWarning", "-m", "drift", "--snapshot-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*snapshots generated*"])
