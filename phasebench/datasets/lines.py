"""Files of one JSON object a line; what is wrong with a line is told with file and number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phasebench.datasets.sample import Sample
from phasebench.errors import InputError


def read_lines(path: Path, what: str, samples_of: Callable[[dict[str, Any]], list[Sample]]) -> list[Sample]:
    """The samples of every line; blank lines are none.

    Args:
        path: the file.
        what: what a line should be, for the error.
        samples_of: line -> samples; a KeyError, TypeError or ValueError of it is the line's fault.

    Raises:
        InputError: the file cannot be read, a line is not what it should be, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines() would split captions too
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            samples += samples_of(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not {what}: {error!r}") from error
    if not samples:
        raise InputError(f"no items in {path}")
    return samples
