"""Findings: a claim about the inside of a model, and the function that judges it.

A finding is written as one function in a case file (``cases/``)::

    @finding(claim="Attention to the image grows with depth.", source="ours", needs=("share_visual",))
    def test_sees_more_late(evidence: Evidence) -> Verdict:
        ...

The decorator turns it into a test case, which pytest runs for every model and dataset. The case's ``finding``
attribute is the ``Finding``, for use without pytest.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from phasebench.catalog import BY_NAME
from phasebench.curves import Curves
from phasebench.errors import InputError
from phasebench.files import packaged_folder
from phasebench.judge.findings.verdict import Outcome, Verdict

PREFIX = "test_"
"""Prefix of a case's function and file; the finding's id follows."""
LAST = 100
"""The order of findings that set none: after the paper's."""


@dataclass(frozen=True)
class Evidence:
    """The data that a finding is judged on.

    Attributes:
        curves: the measured curves.
        controls: name of a control -> its curves.
    """

    curves: Curves
    controls: Mapping[str, Curves]


Judge = Callable[[Evidence], Verdict]


@dataclass(frozen=True)
class Finding:
    """A claim about the inside of a model.

    Attributes:
        id: its name in cases, tables and baselines.
        claim: one sentence.
        source: where the paper makes it.
        judge: a function from the evidence to a verdict.
        needs: curves without which nothing can be judged.
        order: its position in tables.
    """

    id: str
    claim: str
    source: str
    judge: Judge
    needs: tuple[str, ...] = ()
    order: int = LAST

    def verdict(self, evidence: Evidence) -> Verdict:
        """The judge's verdict; undecided if a curve that it needs has no value at all.

        Raises:
            InputError: the judge returns something else.
        """
        missing = [name for name in self.needs if not np.isfinite(evidence.curves.array(name)).any()]
        if missing:
            return _not_measured(missing, evidence.curves.provenance)
        verdict = self.judge(evidence)
        if not isinstance(verdict, Verdict):
            raise InputError(f"finding {self.id}: its judge should return a Verdict, not {verdict!r:.80}")
        return verdict


def _not_measured(missing: list[str], provenance: Mapping[str, Any]) -> Verdict:
    reasons = provenance.get("unmeasured", {})
    reason = reasons.get(BY_NAME[missing[0]].part, "no image has a value")
    detail = f"{', '.join(missing)}: not measured; {reason}"
    return Verdict(Outcome.UNDECIDED, math.nan, math.nan, math.nan, detail)


class Case(Protocol):
    """A test case that ``finding`` made: a function that hands its finding to the fixture ``judge``."""

    finding: Finding

    def __call__(self, judge: Callable[[Finding], None]) -> None:
        """Judge the finding."""


def finding(
    *, claim: str, source: str, needs: tuple[str, ...] = (), order: int = LAST
) -> Callable[[Judge], Case]:
    """Make a test case of a function from evidence to a verdict; its name is ``test_`` and the finding's id.

    Args:
        claim: one sentence.
        source: where the paper makes it.
        needs: curves without which nothing can be judged.
        order: its position in tables; the paper's findings are 1 to 6.
    """

    def decorate(function: Judge) -> Case:
        name = getattr(function, "__name__", "")
        case_finding = Finding(name.removeprefix(PREFIX), claim, source, function, needs, order)

        def case(judge: Callable[[Finding], None]) -> None:
            judge(case_finding)

        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(case, attribute, getattr(function, attribute))
        # pytest reports a case at the line of ``place_as``; functools.wraps would also copy the parameters.
        case_with_attributes: Any = case
        case_with_attributes.finding, case_with_attributes.place_as = case_finding, function
        return case_with_attributes  # type: ignore[no-any-return]

    return decorate


def finding_of(function: object) -> Finding | None:
    """The finding that a case judges; None for other functions."""
    attribute = getattr(function, "finding", None)
    return attribute if isinstance(attribute, Finding) else None


def read_findings(folder: Path) -> dict[str, Finding]:
    """The findings of a folder's case files by id, in their order."""
    values = (value for path in sorted(folder.glob(f"{PREFIX}*.py")) for value in _module_values(path))
    findings = filter(None, map(finding_of, values))
    return {entry.id: entry for entry in sorted(findings, key=lambda entry: entry.order)}


def _module_values(path: Path) -> Iterator[object]:
    """All values that a case file defines; files without a finding are not imported."""
    if "@finding(" not in path.read_text(encoding="utf-8"):
        return
    name = f"phasebench.cases.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from vars(module).values()


FINDINGS: Mapping[str, Finding]
"""The paper's six findings by id, read from the case files when they are first needed."""


if not TYPE_CHECKING:  # a type checker would think that the module has every name

    def __getattr__(name: str) -> Any:
        if name != "FINDINGS":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = read_findings(packaged_folder("cases"))
        return globals()[name]
