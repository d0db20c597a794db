"""What a kind of fault is, and the list that the catalogue's modules fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.patient import Patient, place

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
"""Parts of the sentence that ought to name the cause (``phasebench.judge.drift.cause``)."""

Says = str | Callable[[Any, int], str]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: what a person would call it.
        how: what a severity means, with ``{}`` for its value.
        severities: the values, mildest first.
        change: puts it into a patient, or into a copied folder.
        files: whether it is put into files.
        says: what the named cause ought to contain; a function of severity and number of blocks
            where it depends on them; empty where the curves cannot tell.
        family: the kind of model it is for.
        data: the data set that shows it: the scenes have the model's own size already.
    """

    name: str
    how: str
    severities: tuple[Any, ...]
    change: Callable[[Any, Any], None]
    files: bool
    says: Says
    family: str = LLAVA
    data: str = "scenes"

    def label(self, severity: int) -> str:
        value = self.severities[severity]
        return self.how.format(*value) if isinstance(value, tuple) else self.how.format(value)

    def expected(self, severity: int, blocks: int) -> str:
        return self.says if isinstance(self.says, str) else self.says(self.severities[severity], blocks)


FAULTS: list[Fault] = []
"""All of them, in the order of their modules."""


def memory(
    name: str, how: str, severities: tuple[Any, ...], says: Says = "", family: str = LLAVA
) -> Callable[[Callable[[Patient, Any], None]], Callable[[Patient, Any], None]]:
    """A fault of weights or of the pipeline, put into a loaded model."""

    def add(change: Callable[[Patient, Any], None]) -> Callable[[Patient, Any], None]:
        FAULTS.append(Fault(name, how, severities, change, False, says, family))
        return change

    return add


def files(
    name: str,
    how: str,
    severities: tuple[Any, ...],
    says: Says = "",
    family: str = LLAVA,
    data: str = "scenes",
) -> Callable[[Callable[[Path, Any], None]], Callable[[Path, Any], None]]:
    """A fault of a checkpoint's files, put into a copy of its folder."""

    def add(change: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        FAULTS.append(Fault(name, how, severities, change, True, says, family, data))
        return change

    return add


def block_at(depth: Any, blocks: int) -> str:
    """The cause's name for the block at this relative depth."""
    return f"block {place(depth, blocks)}"
