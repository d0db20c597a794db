"""``python -m tests.support.architectures`` writes ``docs/architectures.md``: what becomes of each type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import transformers

from phasebench.errors import InputError
from phasebench.measurement.selftest import SelfTest, self_test
from phasebench.models.anatomy.adapter import dissect
from tests.support import zoo
from tests.support.paths import ROOT

PATH = ROOT / "docs" / "architectures.md"
HEAD = """# Architectures

Every image-text-to-text type of transformers {version} was tried as a tiny model with random weights.
{counts}. This page is written by
`python -m tests.support.architectures` and checked by `tests/models/anatomy/test_architectures.py`, which
compares each type with the states and attention weights that transformers returns and with the model's own
head: alone, padded on either side and in a batch of different lengths.

"Whole" means that similarity, attention and lens are measured at every layer. "In part" means that the
curves are NaN where they cannot be measured, and the results give the reason; a finding whose curve has no
value at any layer is undecided, and other findings are judged on the layers that have a value. A gate between
attention and output projection is taken into account; it is distinguished from a norm by perturbing its
input. Attention that passes through a norm is not measured. "Refused" types are not measured at all.

| type | measured | not measured, and why |
|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a type: ``whole``, ``in part``, ``refused`` or ``not built``, and why not whole."""

    name: str
    what: str
    reason: str

    def line(self) -> str:
        return f"| `{self.name}` | {self.what} | {self.reason} |"


def outcome(name: str, found: SelfTest | InputError) -> Outcome:
    """From what the self-test saw, or the refusal."""
    if isinstance(found, InputError):
        return Outcome(name, "refused", str(found).partition(": ")[2])
    reasons = "; ".join(f"{part}: {why}" for part, why in sorted(found.unmeasured.items()))
    return Outcome(name, "in part" if reasons else "whole", reasons)


def examine(name: str) -> Outcome:
    """Build and try one type."""
    try:
        specimen = zoo.specimen(name)
    except zoo.Unbuildable as reason:
        return Outcome(name, "not built", str(reason))
    with zoo.quiet():
        try:
            return outcome(name, self_test(dissect(specimen.model, specimen.inputs), specimen.inputs))
        except InputError as refusal:
            return outcome(name, refusal)


def document(outcomes: Sequence[Outcome]) -> str:
    """The page; the variants of a type stand below the types, and are not counted."""
    counts = Counter(one.what for one in outcomes if "/" not in one.name)
    text = f"{counts['whole']} measured whole, {counts['in part']} in part, {counts['refused']} refused"
    text += f", {counts['not built']} not built" if counts["not built"] else ""
    head = HEAD.format(version=transformers.__version__, counts=text)
    return head + "\n".join(one.line() for one in outcomes) + "\n"


if __name__ == "__main__":
    PATH.write_text(document([examine(name) for name in [*zoo.types(), *zoo.variants()]]), encoding="utf-8")
