"""The line of progress while a model is measured: images done, rate, time left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from phasebench.measurement.batches import ProgressUpdate
from phasebench.plugin.progress import Progress, progress_line
from phasebench.settings import Settings
from tests.support.runs import Run


class Reporter:
    """A reporter that collects the lines of a terminal or a log."""

    def __init__(self, verbosity: int, terminal: bool) -> None:
        self.verbosity, self.isatty = verbosity, terminal
        self.lines: list[str] = []

    def ensure_newline(self) -> None:
        pass

    def write_line(self, text: str) -> None:
        self.lines.append(text)

    def rewrite(self, text: str, erase: bool = False) -> None:
        if erase:
            self.lines.append(text)
        else:
            assert text == ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that only moves when it is called with a number of seconds."""
    now = [100.0]
    monkeypatch.setattr("phasebench.plugin.progress.time", SimpleNamespace(monotonic=lambda: now[0]))

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def progress(verbosity: int = 0, terminal: bool = False) -> tuple[Progress, Reporter]:
    reporter = Reporter(verbosity, terminal)
    plugins = {
        "terminalreporter": reporter,
        "capturemanager": SimpleNamespace(global_and_fixture_disabled=nullcontext),
    }
    config = SimpleNamespace(
        pluginmanager=SimpleNamespace(get_plugin=plugins.__getitem__), get_verbosity=lambda: verbosity
    )
    return Progress(config, "m on d"), reporter  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("update", "seconds", "line"),
    [
        (ProgressUpdate(3, 3, 4), 1.5, "3/4 images, 2/s, 0 s left"),
        (ProgressUpdate(2, 2, 62), 4.0, "2/62 images, 0.5/s, 2 min left"),
        (ProgressUpdate(1, 1, 401), 60.0, "1/401 images, 0.0167/s, 6.7 h left"),
        (ProgressUpdate(12, 4, 60), 8.0, "12/60 images (8 from the store), 0.5/s, 96 s left"),
        (ProgressUpdate(9, 0, 60), 0.0, "9/60 images (9 from the store)"),
        (ProgressUpdate(60, 60, 60), 30.0, "60/60 images, 2/s"),
        (ProgressUpdate(6, 6, 24, control="text"), 3.0, "control text: 6/24 images, 2/s, 9 s left"),
    ],
)
def test_the_line_of_progress(update: ProgressUpdate, seconds: float, line: str) -> None:
    assert progress_line(update, seconds) == line


def test_images_from_the_store_do_not_count_in_the_rate(clock: Callable[[float], None]) -> None:
    """Two images that take ten seconds each, the first after thirty that come back at once."""
    show_progress, reporter = progress()
    show_progress(ProgressUpdate(0, 0, 32))
    for images in range(1, 31):
        clock(0.01)
        show_progress(ProgressUpdate(images, 0, 32))
    for images in (31, 32):
        clock(10.0)
        show_progress(ProgressUpdate(images, images - 30, 32))
    assert reporter.lines == [
        "m on d: 1/32 images (1 from the store)",
        "m on d: 31/32 images (30 from the store), 0.1/s, 10 s left",
        "m on d: 32/32 images (30 from the store), 0.1/s",
    ]


def test_the_clock_starts_with_the_first_image_not_with_the_loading(clock: Callable[[float], None]) -> None:
    show_progress, reporter = progress()
    clock(100.0)
    show_progress(ProgressUpdate(0, 0, 2))
    clock(2.0)
    show_progress(ProgressUpdate(1, 1, 2))
    assert reporter.lines == ["m on d: 1/2 images, 0.5/s, 2 s left"]


def test_a_second_round_starts_the_clock_again(clock: Callable[[float], None]) -> None:
    """With several processes the first process goes through its share, then through all images."""
    show_progress, reporter = progress()
    for seconds in (50.0, 1.0):
        show_progress(ProgressUpdate(0, 0, 1))
        clock(seconds)
        show_progress(ProgressUpdate(1, 1, 1))
    assert reporter.lines == ["m on d: 1/1 images, 0.02/s", "m on d: 1/1 images, 1/s"]


@pytest.mark.parametrize("verbosity", [0, -1])
def test_a_worker_of_xdist_prints_lines(capsys: pytest.CaptureFixture[str], verbosity: int) -> None:
    plugins = {
        "terminalreporter": None,
        "capturemanager": SimpleNamespace(global_and_fixture_disabled=nullcontext),
    }
    manager = SimpleNamespace(get_plugin=plugins.__getitem__)
    worker = SimpleNamespace(pluginmanager=manager, get_verbosity=lambda: verbosity, workerinput={})
    show_progress = Progress(worker, "m on d")  # type: ignore[arg-type]
    show_progress.show("loading")
    show_progress(ProgressUpdate(0, 0, 1))
    show_progress(ProgressUpdate(1, 0, 1))
    lines = ["m on d: loading", "m on d: 1/1 images (1 from the store)"]
    assert capsys.readouterr().err.splitlines() == (lines if verbosity == 0 else [])


def test_an_interrupted_control_does_not_change_the_number_of_images(clock: Callable[[float], None]) -> None:
    show_progress, reporter = progress()
    show_progress(ProgressUpdate(5, 5, 5))
    show_progress(ProgressUpdate(0, 0, 24, control="text"))
    clock(20.0)
    show_progress(ProgressUpdate(2, 2, 24, control="text"))
    assert reporter.lines[-1].startswith("m on d: control text: 2/24 images, 0.1/s")
    assert "5 of 5 images are measured" in show_progress.interrupted(Settings())


def test_a_log_has_a_line_every_ten_seconds_a_terminal_five_a_second(clock: Callable[[float], None]) -> None:
    for terminal, lines in ((False, 3), (True, 6)):
        show_progress, reporter = progress(terminal=terminal)
        for images in range(6):
            show_progress(ProgressUpdate(images, images, 5))
            clock(4.0)
        assert len(reporter.lines) == lines - terminal
        assert reporter.lines[-1] == ("" if terminal else "m on d: 5/5 images, 0.25/s")


def test_quiet_prints_no_progress(clock: Callable[[float], None]) -> None:
    show_progress, reporter = progress(verbosity=-1)
    show_progress.show("self-test")
    show_progress(ProgressUpdate(1, 1, 1))
    assert reporter.lines == []


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (None, "interrupted before an image of m on d was measured"),
        (
            ProgressUpdate(2, 1, 4),
            "interrupted; of m on d 2 of 4 images are measured and kept in s; "
            "the same command resumes from there",
        ),
        (
            ProgressUpdate(2, 1, 4, "No space left"),
            "interrupted; of m on d 2 of 4 images are measured, not all of them kept: No space left",
        ),
    ],
)
def test_the_message_of_an_interrupted_measurement(update: ProgressUpdate | None, message: str) -> None:
    show_progress, _ = progress(verbosity=-1)
    if update:
        show_progress(update)
    assert show_progress.interrupted(Settings(store=Path("s"))) == message
    fresh_message = message.replace("the same command resumes", "the same command without --fresh resumes")
    assert show_progress.interrupted(Settings(store=Path("s"), fresh=True)) == fresh_message


def test_a_run_prints_its_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasebench.plugin.progress.LOG_INTERVAL", 0.0)
    result = run("-m", "finding", "--snapshot-update")
    result.stdout.fnmatch_lines(
        [
            "*tiny-llava: loading * MB of weights",
            "*tiny-llava on pics: self-test",
            "*on pics: 1/4 images, */s, * s left",
        ]
    )
    result.stdout.fnmatch_lines(["*tiny-llava on pics: 4/4 images, */s"])


STAGES = """
import sys, pytest
from phasebench.plugin.progress import Progress
def show(progress, stage):
    heavy = sorted({"torch", "transformers", "numpy"} & {*sys.modules})
    with open("stages", "a") as file:
        print(f"{progress._label}: {stage} {heavy}", file=file)
Progress.show = show
pytest.main(["--phasebench", "-p", "no:cacheprovider", "--store", "store", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_every_stage_is_shown_before_it_begins(tmp_path: Path, cache: Path) -> None:
    """Imports take most of the time until the first image."""
    options = ("--model", "tiny-llava", "--dataset", "scenes", "--images", "1", "-k", "four_phases")
    command = [sys.executable, "-c", STAGES, *options, "--phasebench-cache", str(cache)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    first, second, *others = (tmp_path / "stages").read_text().splitlines()
    assert first == "phasebench: checking models, datasets and baselines []"
    assert second == "tiny-llava: importing torch and transformers ['numpy']"
    assert [line.partition(" [")[0] for line in others] == [
        "tiny-llava: preparing its files",
        "tiny-llava: loading 1.3 MB of weights",
        "tiny-llava on scenes: self-test",
    ]
