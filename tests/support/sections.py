"""A page whose numbers a command makes: sections by name, written together or printed one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def main(sections: Mapping[str, Callable[[], str]], text: Path, page: Path) -> None:
    """Write ``page`` from the template ``text``, or print only the sections that the command line names."""
    if chosen := sys.argv[1:]:
        print("\n\n".join(sections[name]() for name in chosen))
    else:
        written = text.read_text(encoding="utf-8").format(**{name: make() for name, make in sections.items()})
        page.write_text(written, encoding="utf-8")
