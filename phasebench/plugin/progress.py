"""A line of progress while a model is measured: images done, rate, time left."""

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

LOG_INTERVAL = 10.0
"""Seconds between lines where a line cannot be rewritten (a log)."""


class Progress:
    """Shows the progress of a measurement: call it with each ``ProgressUpdate``.

    It writes through pytest's terminal reporter, bypassing pytest's capturing. A pytest-xdist worker has no
    reporter and writes lines to the run's error output instead.

    The rate counts only images that are measured now and the time spent on them. Images from the store come
    back at once and do not show how long the rest takes.
    """

    def __init__(self, config: pytest.Config, label: str) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._verbosity = config.get_verbosity()
        self._worker = hasattr(config, "workerinput")
        self._label = label
        self._update: ProgressUpdate | None = None
        self._measured = 0
        self._measuring_seconds = 0.0
        self._update_time, self._line_time = time.monotonic(), -math.inf

    @property
    def _terminal(self) -> bool:
        return bool(self._reporter and self._reporter.isatty)

    def __call__(self, update: ProgressUpdate) -> None:
        """Show how far the measurement is; the update with no image done starts the clock."""
        now = time.monotonic()
        if not update.images:
            self._measuring_seconds = 0.0
        elif update.measured > self._measured:
            self._measuring_seconds += now - self._update_time
        self._update_time, self._measured = now, update.measured
        if not update.control:
            self._update = update
        interval = 0.2 if self._terminal else LOG_INTERVAL
        is_last = update.images == update.total
        if update.images and (now - self._line_time >= interval or is_last):
            self._line_time = now
            self._write(progress_line(update, self._measuring_seconds), last=is_last)

    def show(self, step: str) -> None:
        """Show a step before the first image, such as loading."""
        self._write(step, last=False)

    def interrupted(self, settings: Settings) -> str:
        """A message about an interrupted measurement: the images measured, and where they are kept."""
        update = self._update
        if update is None:
            return f"interrupted before an image of {self._label} was measured"
        text = f"interrupted; of {self._label} {update.images} of {update.total} images are measured"
        if update.trouble:
            return f"{text}, not all of them kept: {update.trouble}"
        return f"{text} and kept in {store_message(settings)}"

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
                    self._reporter.rewrite("")  # the cases' results continue at the start of the line
            else:
                self._reporter.ensure_newline()
                self._reporter.write_line(f"{self._label}: {text}")


def store_message(settings: Settings) -> str:
    """The store's folder, and how to resume an interrupted run, in words."""
    command = "the same command without --fresh" if settings.fresh else "the same command"
    return f"{settings.store}; {command} resumes from there"


def progress_line(update: ProgressUpdate, seconds: float) -> str:
    """``12/60 images (8 from the store), 1.43/s, 34 s left``; the measured images took ``seconds``."""
    prefix = f"control {update.control}: " if update.control else ""
    text = f"{prefix}{update.images}/{update.total} images"
    if update.images > update.measured:
        text += f" ({update.images - update.measured} from the store)"
    if update.measured:
        rate = update.measured / max(seconds, 1e-9)
        text += f", {rate:.3g}/s"
        if update.images < update.total:
            text += f", {duration((update.total - update.images) / rate)} left"
    return text


def duration(seconds: float) -> str:
    """``34 s``, ``12 min`` or ``6.7 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
