"""A picture of a run: ``pytest --phasebench --color=yes | python -m tests.support.picture FILE TITLE``.

Keeps what lies between the first table of phasebench and the next section of another plugin.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 80
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def tables(lines: Iterable[str]) -> Iterator[str]:
    """The lines of phasebench's tables in pytest's output."""
    inside = False
    for line in lines:
        plain = _ESCAPES.sub("", line)
        if re.match(r"=+ phasebench ", plain):
            inside = True
        elif re.match(r"(---|===|phasebench:)", plain):
            inside = False
        if inside:
            yield line.rstrip("\n")


def picture(lines: Iterable[str], title: str) -> str:
    """An SVG of the tables."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in tables(lines):
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    return str(console.export_svg(title=title))


if __name__ == "__main__":
    target, title = sys.argv[1:]
    Path(target).write_text(picture(sys.stdin, title), encoding="utf-8")
