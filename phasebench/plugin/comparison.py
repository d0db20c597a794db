"""A case's comparison with its baseline, and what follows from it: write, pass, skip or fail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.decision import Action, Decision, Reason, decide, image_counts
from phasebench.judge.drift.provenance import DEFINITIONS, notes
from phasebench.judge.drift.record import Record
from phasebench.judge.drift.reference import read_record
from phasebench.plugin.blocking import block
from phasebench.plugin.run import Case, Run, attach, case_of, parameters, run_of
from phasebench.report.entries import BaselineEntry, UncomparedEntry
from phasebench.settings import REMEDIES

if TYPE_CHECKING:
    from phasebench.curves import Curves

VERDICTS = "verdicts/"
"""The folder of verdicts among a model's and dataset's baselines."""
COMPARED = (Reason.AGREES, Reason.DIFFERS, Reason.UNREADABLE)
"""Reasons with which syrupy compares a baseline, and counts it."""


def asked_name(item: pytest.Item) -> str:
    """The name of the baseline that a packaged case or a finding asks for; empty for other cases."""
    from phasebench.judge.findings.finding import finding_of

    finding = parameters(item).get("own_finding") or finding_of(getattr(item, "function", None))
    return f"{VERDICTS}{finding.id}" if finding else str(parameters(item).get("curve", ""))


@dataclass(frozen=True)
class Comparison:
    """A curve or verdict that a case measured, and the recorded one.

    Attributes:
        item: the case.
        name: the baseline's name in its folder: a curve's, or ``verdicts/<finding>``.
        measured: the record that would be written.
    """

    item: pytest.Item
    name: str
    measured: Record

    @property
    def run(self) -> Run:
        """The run that the case is part of."""
        return run_of(self.item.config)

    @property
    def case(self) -> Case:
        """The case's model, dataset and entries."""
        return case_of(self.item)

    @property
    def baseline_name(self) -> str:
        """``<model>/<dataset>/<name>`` of the baseline."""
        return f"{self.case.baseline_id}/{self.name}"

    @cached_property
    def path(self) -> Path | None:
        """The baseline's file; None if nothing is recorded."""
        return self.run.folders.find(f"{self.baseline_name}.json")

    @cached_property
    def recorded(self) -> Record | InputError | None:
        """The recorded one; the error if its file cannot be read; None if there is none."""
        try:
            return read_record(self.path) if self.path else None
        except InputError as error:
            return error

    @cached_property
    def decision(self) -> Decision:
        """What to do with the measured record."""
        return decide(self.recorded, self.measured, self.run.mode, self.run.reference)

    def skip_if_nothing_to_compare(self) -> None:
        """Skip a case that has nothing to compare with, and count it."""
        if self.decision.action is Action.SKIP:
            reason, remedy = self.decision.lines[0], REMEDIES.get(self.decision.remedy, "")
            attach(self.item, UncomparedEntry(name=self.name, reason=reason, remedy=remedy))
            pytest.skip(self.message())
        if self.decision.action is Action.FAIL and self.decision.reason is Reason.NOT_RECORDED:
            self._skip_if_reported()

    def _skip_if_reported(self) -> None:
        """Skip the case if another of its model and dataset fails for all that lack a baseline."""
        run, key = self.run, f"{self.case.run_id} lacks baselines"
        block(run, key, "")
        if run.blocks[key].case != self.item.nodeid:
            reason = f"no baseline of {self.name}, as another case reports"
            attach(self.item, UncomparedEntry(name=self.name, reason=reason))
            pytest.skip(reason)

    def _missing(self) -> list[str]:
        """The baselines that cases of this model and dataset ask for and that do not exist."""
        model_and_dataset = (self.case.model, self.case.dataset)
        names = [
            asked_name(item)
            for item in self.item.session.items
            if tuple(parameters(item).get(key) for key in ("loaded", "measurement")) == model_and_dataset
        ]
        asked = dict.fromkeys(filter(None, (*names, self.name)))
        return [name for name in asked if not self.run.folders.find(f"{self.case.baseline_id}/{name}.json")]

    def carry_out(self, baseline: Any) -> str:
        """Let syrupy's ``baseline`` compare, count and write.

        Returns the message of a failure; empty without one.
        """
        decision = self.decision
        if decision.action is Action.WRITE or decision.reason in COMPARED:
            matches = baseline(name=self.name) == self.measured
            error = [*baseline.executions.values()][-1].exception
            attach(self.item, self._entry(error if isinstance(error, OSError) else None))
            if isinstance(error, OSError):
                return self._unwritten(error)
            return "" if matches else self.message()
        attach(self.item, self._entry())
        return "" if decision.action is Action.ACCEPT else self.message()

    def _entry(self, error: OSError | None = None) -> BaselineEntry:
        """The two sides of the comparison, and where the measured one was written or, after an error, not."""
        now = self.measured["provenance"]
        before = self.recorded.get("provenance", {}) if isinstance(self.recorded, dict) else {}
        own = (
            str(self.run.folders.own / self.case.baseline_id) if self.decision.action is Action.WRITE else ""
        )
        return BaselineEntry(
            name=self.name,
            checkpoint=now.get("checkpoint", ""),
            prompt=now.get("prompt", ""),
            baseline=self.case.baseline_model,
            baseline_folder=str(self.path.parents[self.name.count("/")]) if self.path else "",
            baseline_checkpoint=before.get("checkpoint", ""),
            baseline_prompt=before.get("prompt", ""),
            definitions="; ".join(notes(before, now, DEFINITIONS)) if before else "",
            written="" if error else own,
            unwritten=own if error else "",
            error=str(error.strerror or error) if error else "",
        )

    def _unwritten(self, error: OSError) -> str:
        """The message if the baseline could not be written; skips the case if another one has reported it."""
        run, key = self.run, f"{self.case.run_id} cannot be written"
        block(run, key, "")
        if run.blocks[key].case != self.item.nodeid:
            pytest.skip(f"{self.name} was not written, as another case reports")
        path = self.run.folders.own / f"{self.baseline_name}.json"
        state = "it is as before" if path.is_file() else "nothing is there"
        return f"{path} could not be written ({error.strerror or error}); {state}"

    def message(self) -> str:
        """The decision in words, with the option that would help; the case's id names what was compared."""
        decision = self.decision
        if decision.reason is Reason.NOT_RECORDED and decision.action is Action.FAIL:
            return f"no baseline of {', '.join(self._missing())}; {REMEDIES[decision.remedy]}"
        remedy = REMEDIES.get(decision.remedy, "")
        first_line, *lines = decision.lines or (decision.reason.value,)
        first_line = f"{first_line}; {remedy}" if remedy else first_line
        if decision.action is Action.REFUSE:
            counts = image_counts(self.recorded, self.measured)  # type: ignore[arg-type]  # it was compared
            alternative = self._alternative()
            return f"differs from its baseline, but {counts}: {remedy}, or {alternative}"
        against = f"against {self.run.against}: " if self.run.against else ""
        return "\n".join([f"{against}{first_line}", *lines])

    def _alternative(self) -> str:
        """How to record fewer images after all; the other files in the folder have more images too."""
        if self.path is not None and self.path.is_relative_to(self.run.folders.own):
            return f"remove {self.path.parent}"
        return "name the model anew (--model NAME=...)"

    def cause(self, curves: Curves) -> str:
        """The likely cause of a drift, from all curves of the model and dataset; it is computed once."""
        from phasebench.judge.drift.cause import likely_cause

        baseline_id, causes = self.case.baseline_id, self.run.causes
        if baseline_id not in causes:
            causes[baseline_id] = likely_cause(self.run.reference, baseline_id, curves)
        return causes[baseline_id]
