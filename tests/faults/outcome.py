"""The outcome of one fault, with all that its cause is named from: a new rule needs no new measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from phasebench.judge.drift.cause import cause
from phasebench.judge.drift.difference import Difference
from tests.faults.kinds import names

ARRAYS = ("recorded", "measured", "allowed", "half_width", "rms_excess", "spread")
"""The arrays of a ``Difference``."""
CAUSE_FACTS = ("prompt", "layout")
"""The fields of the provenance that the cause depends on."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one fault at one severity.

    Attributes:
        severities: how many severities the fault has.
        images: after how many images there was drift; 0 if the model was refused, None if neither.
        curve, layer, excess: the largest difference, divided by the allowed one.
        differences: every curve's difference at that comparison, from which the cause is named.
        provenance: the recorded and the measured facts that the cause depends on.
        cause, expected: the cause that was named, and the parts one of which it should contain.
        refusal: why the model was not measured.
    """

    fault: str
    family: str
    label: str
    severity: int
    severities: int
    images: int | None = None
    curve: str = ""
    layer: int = -1
    excess: float = 0.0
    differences: list[dict[str, Any]] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)
    cause: str = ""
    expected: Sequence[str] = ()
    refusal: str = ""

    @property
    def is_caught(self) -> bool:
        return self.images is not None

    @property
    def has_right_cause(self) -> bool:
        return any(names(self.cause, part) for part in self.expected)

    as_dict = asdict

    def judged_again(self, expected: Callable[[int, int], Sequence[str]]) -> Outcome:
        """This outcome with the cause that the present rule names; ``expected`` (severity, blocks) too."""
        if not self.differences:
            return self
        kept = [unpack(values) for values in self.differences]
        blocks = len(kept[0].measured) - 1
        return replace(self, cause=cause(kept, *self.provenance), expected=expected(self.severity, blocks))


def pack(difference: Difference) -> dict[str, Any]:
    """A difference as plain data for JSON."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(difference).items()
    }


def unpack(values: dict[str, Any]) -> Difference:
    """The difference that ``pack`` made plain, also after JSON."""
    arrays: dict[str, Any] = {name: np.array(values[name], dtype=np.float64) for name in ARRAYS}
    return Difference(**{**values, **arrays})
