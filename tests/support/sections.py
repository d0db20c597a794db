"""A page whose numbers a command computes: its sections are written together or printed one by one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def main(
    program: str,
    sections: Mapping[str, Callable[[], str]],
    template: Path,
    page: Path,
    arguments: Sequence[str] | None = None,
) -> None:
    """Write ``page`` from ``template``, or only print the sections that the command line names.

    Args:
        program: the module that is run, as in ``python -m program``.
        sections: name -> what computes that section's text.
        template: the page's text, with ``{name}`` where a section goes.
        page: the file that is written.
        arguments: the command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=(
            f"Compute all sections and write {page.parent.name}/{page.name}, "
            "or print only the sections that are named and write nothing."
        ),
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"sections to print: {', '.join(sections)}"
    )
    names = parser.parse_args(arguments).sections
    if unknown_names := [name for name in names if name not in sections]:
        parser.error(f"no section {', '.join(unknown_names)}; there are {', '.join(sections)}")
    if names:
        print("\n\n".join(sections[name]() for name in names))
        return
    texts = {name: compute() for name, compute in sections.items()}
    page.write_text(template.read_text(encoding="utf-8").format(**texts), encoding="utf-8")
