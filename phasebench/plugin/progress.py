"""One line of progress while a model is measured: done, rate, time left."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from phasebench.measurement.batches import ProgressUpdate
    from phasebench.settings import Settings

EVERY = 10.0
"""Seconds between lines where a line cannot be rewritten (a log)."""


class Progress:
    """Call with ``ProgressUpdate``; writes through pytest's terminal reporter, past its capturing.

    A worker of pytest-xdist has no reporter: it writes lines to the error output that it shares with the run.

    The rate is that of images measured now, over the time spent on them: what an earlier run has
    measured comes back at once and says nothing of how long the rest takes.
    """

    def __init__(self, config: pytest.Config, label: str) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._verbosity = config.get_verbosity()
        self._worker = hasattr(config, "workerinput")
        self._label = label
        self._done: ProgressUpdate | None = None
        self._measured = 0
        self._busy = 0.0
        self._last, self._shown = time.monotonic(), -math.inf

    @property
    def _terminal(self) -> bool:
        return bool(self._reporter and self._reporter.isatty)

    def __call__(self, done: ProgressUpdate) -> None:
        """Show how far the measurement is; the call with no image done starts the clock."""
        now = time.monotonic()
        if not done.images:
            self._busy = 0.0
        elif done.measured > self._measured:
            self._busy += now - self._last
        self._last, self._measured = now, done.measured
        if not done.control:
            self._done = done
        pause = 0.2 if self._terminal else EVERY
        if done.images and (now - self._shown >= pause or done.images == done.total):
            self._shown = now
            self._write(progress_line(done, self._busy), last=done.images == done.total)

    def say(self, what: str) -> None:
        """Show what goes on before the first image."""
        self._write(what, last=False)

    def interrupted(self, settings: Settings) -> str:
        """What a measurement that was stopped leaves behind, in words."""
        done = self._done
        if done is None:
            return f"interrupted before an image of {self._label} was measured"
        text = f"interrupted; of {self._label} {done.images} of {done.total} images are measured"
        if done.trouble:
            return f"{text}, not all of them kept: {done.trouble}"
        return f"{text} and kept in {where_kept(settings)}"

    def _write(self, text: str, *, last: bool) -> None:
        if self._verbosity < 0 or (self._reporter is None and not self._worker):
            return
        with self._capture.global_and_fixture_disabled() if self._capture else nullcontext():
            if self._worker:
                sys.stderr.write(f"{self._label}: {text}\n")
                sys.stderr.flush()
            elif self._terminal:
                self._reporter.rewrite("" if last else f"{self._label}: {text}", erase=True)
                if last:
                    self._reporter.rewrite("")  # the results of the cases go on at the line's start
            else:
                self._reporter.ensure_newline()
                self._reporter.write_line(f"{self._label}: {text}")


def where_kept(settings: Settings) -> str:
    """Where finished images are kept, and how a run that was stopped is taken up again, in words."""
    command = "the same command without --fresh" if settings.fresh else "the same command"
    return f"{settings.store}; {command} resumes from there"


def progress_line(done: ProgressUpdate, busy: float) -> str:
    """``12/60 images (8 from the store), 1.43/s, 34 s left``; ``busy`` seconds went into those measured."""
    what = f"control {done.control}: " if done.control else ""
    text = f"{what}{done.images}/{done.total} images"
    if done.images > done.measured:
        text += f" ({done.images - done.measured} from the store)"
    if done.measured:
        rate = done.measured / max(busy, 1e-9)
        text += f", {rate:.3g}/s"
        if done.images < done.total:
            text += f", {duration((done.total - done.images) / rate)} left"
    return text


def duration(seconds: float) -> str:
    """``34 s``, ``12 min`` or ``6.7 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
