"""Kinds of faults, and the list that the catalogue's modules fill."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.patient import Patient, block_number

LLAVA, BLIP = "llava", "instructblip"
BOTH = (LLAVA,)
LAYOUT = "prompt's layout"
PROMPT = "prompt's text"
BEFORE = "before the language model"
IMAGES = "before the language model: image"
TEXT = "before the language model: text"
HEAD = "final norm or output head"
LENGTH = "missing or added"
FIRST = "block 1, or"
EVERYWHERE = "everywhere"
ALL_BLOCKS = (FIRST, EVERYWHERE)
"""Parts of the sentence that should name the cause (``phasebench.judge.drift.cause``)."""
NEAR = 5
"""A cause "at or before block k" is right if the block is k or at most so many blocks before it: a sixth of
the 30 blocks."""
BLOCK, AT_OR_BEFORE = r"block (\d+)", r"at or before block (\d+)"

ExpectedCause = str | Sequence[str] | Callable[[Any, int], str | Sequence[str]]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: its name in the tables.
        label_format: the meaning of a severity, with ``{}`` for its value.
        severities: the values, mildest first.
        change: applies it to a patient, or to a copied folder.
        in_files: whether it is applied to files.
        expected_cause: a part of the cause that should be named, or several of which one should; a function
            of severity and number of blocks if it depends on them; empty if the curves cannot show the cause.
        family: the family of models it is for.
        data: the dataset that shows it; the scenes already have the model's own size.
    """

    name: str
    label_format: str
    severities: tuple[Any, ...]
    change: Callable[[Any, Any], None]
    in_files: bool
    expected_cause: ExpectedCause
    family: str = LLAVA
    data: str = "scenes"

    def label(self, severity: int) -> str:
        value = self.severities[severity]
        return (
            self.label_format.format(*value) if isinstance(value, tuple) else self.label_format.format(value)
        )

    def expected_parts(self, severity: int, blocks: int) -> tuple[str, ...]:
        """The parts of the cause one of which should be named; empty if the curves cannot show the cause."""
        parts = self.expected_cause
        if callable(parts):
            parts = parts(self.severities[severity], blocks)
        return tuple(part for part in ([parts] if isinstance(parts, str) else parts) if part)


FAULTS: list[Fault] = []
"""All faults, in the order of their modules."""


def memory(
    name: str,
    label_format: str,
    severities: tuple[Any, ...],
    expected_cause: ExpectedCause = "",
    family: str = LLAVA,
) -> Callable[[Callable[[Patient, Any], None]], Callable[[Patient, Any], None]]:
    """Register a fault of weights or of the pipeline, applied to a loaded model."""

    def register(change: Callable[[Patient, Any], None]) -> Callable[[Patient, Any], None]:
        FAULTS.append(Fault(name, label_format, severities, change, False, expected_cause, family))
        return change

    return register


def files(
    name: str,
    label_format: str,
    severities: tuple[Any, ...],
    expected_cause: ExpectedCause = "",
    family: str = LLAVA,
    data: str = "scenes",
) -> Callable[[Callable[[Path, Any], None]], Callable[[Path, Any], None]]:
    """Register a fault of a checkpoint's files, applied to a copy of its folder."""

    def register(change: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        FAULTS.append(Fault(name, label_format, severities, change, True, expected_cause, family, data))
        return change

    return register


def of_first_blocks(share: Any, _blocks: int) -> Sequence[str]:
    """The cause of a fault of this share of the blocks, from the first on."""
    return ALL_BLOCKS if share == 1 else (FIRST,)


def names(cause: str, part: str) -> bool:
    """Whether a cause names this part: contains it, or says "at or before" a block that is near to it."""
    block, last = re.match(BLOCK, part), re.search(AT_OR_BEFORE, cause)
    if block and last:
        return 0 <= int(last[1]) - int(block[1]) <= NEAR
    return re.search(rf"{re.escape(part)}(?!\d)", cause) is not None


def block_name(depth: Any, blocks: int) -> str:
    """The cause's name for the block at this relative depth."""
    return f"block {block_number(depth, blocks)}"
