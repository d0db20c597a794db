"""One line of progress while a model is measured: done, rate, time left."""

from __future__ import annotations

import time
from typing import Any

import pytest

EVERY = 10.0
"""Seconds between lines where a line cannot be rewritten (a log)."""


class Progress:
    """Call with (done, total); writes through pytest's terminal reporter, past its capturing."""

    def __init__(self, config: pytest.Config, label: str) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._label = label
        self.done = 0
        self._began = time.monotonic()
        self._shown = 0.0

    @property
    def _terminal(self) -> bool:
        return bool(self._reporter and self._reporter.isatty)

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` images are measured."""
        self.done = done
        now = time.monotonic()
        pause = 0.2 if self._terminal else EVERY
        if self._silent or (now - self._shown < pause and done < total):
            return
        self._shown = now
        rate = done / max(now - self._began, 1e-9)
        text = f"{self._label}: {done}/{total} images, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
        self._write(text, last=done == total)

    def say(self, what: str) -> None:
        """Show what goes on before the first image."""
        if not self._silent:
            self._write(f"{self._label}: {what}", last=False)

    @property
    def _silent(self) -> bool:
        return self._reporter is None or self._reporter.verbosity < 0

    def _write(self, text: str, *, last: bool) -> None:
        with self._capture.global_and_fixture_disabled():
            if self._terminal:
                self._reporter.rewrite("" if last else text, erase=True)
            else:
                self._reporter.ensure_newline()
                self._reporter.write_line(text)
