"""One case's comparison with its baseline: what is recorded, how it differs, and what the case says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.baseline_folders import BASELINE_ID, RUN_ID, updating
from phasebench.plugin.reporter import UNCOMPARED, attach

if TYPE_CHECKING:
    from phasebench.curves import Curves
    from phasebench.judge.drift.baselines import Reference
    from phasebench.judge.drift.record import Record

CAUSES = pytest.StashKey[dict[str, str]]()
"""The likely cause of the drift from each folder of baselines, ``<model>/<dataset>``."""


@dataclass(frozen=True)
class Comparison:
    """A curve or verdict as measured by one case, beside the recorded one.

    Attributes:
        item: the case.
        name: of the baseline in its folder: a curve, or ``verdicts/<finding>``.
        measured: the record that would be written.
    """

    item: pytest.Item
    name: str
    measured: Record

    @cached_property
    def reference(self) -> Reference:
        """What the run is compared with."""
        from phasebench.plugin.session import REFERENCE

        return self.item.config.stash[REFERENCE]

    @property
    def where(self) -> str:
        """The baseline's name: ``<model>/<dataset>/<name>``."""
        return f"{self.item.stash[BASELINE_ID]}/{self.name}"

    @cached_property
    def path(self) -> Path | None:
        """The baseline's file; None where nothing is recorded."""
        return self.reference.folders.find(f"{self.where}.json")

    @property
    def recorded(self) -> Record | None:
        """The recorded one; None where there is none, or none that can be read."""
        return self._read[0]

    @property
    def unreadable(self) -> str:
        """Why the file cannot be read, naming it; empty where it can, or where there is none."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Record | None, str]:
        from phasebench.judge.drift.baselines import read_record

        try:
            return read_record(self.path) if self.path else None, ""
        except InputError as error:
            return None, str(error)

    @property
    def updating(self) -> bool:
        """Whether what is not recorded, or differs, is about to be written."""
        return updating(self.item.config)

    @property
    def strict(self) -> bool:
        """Whether the case fails where there is nothing to compare with."""
        return bool(self.item.config.option.strict_baselines)

    @property
    def fewer_images(self) -> str:
        """That this run has fewer images than are recorded, in words; empty where it has not."""
        from phasebench.judge.drift.baselines import fewer_images, image_counts

        if self.recorded and fewer_images(self.recorded, self.measured):
            return image_counts(self.recorded, self.measured)
        return ""

    @property
    def not_recorded(self) -> str:
        """What is said where nothing is recorded."""
        return f"no baseline for {self.where}; write it with --snapshot-update"

    def loses_images(self) -> str:
        """Why ``--snapshot-update`` must not write: the file rests on more images, as do others beside it."""
        rewriting = self.item.config.option.update_snapshots
        if self.path is None or not rewriting or not self.fewer_images or self._agrees():
            return ""
        own = self.path.is_relative_to(self.reference.folders.own)
        way = f"remove {self.path.parent}" if own else "name the model anew (--model NAME=...)"
        told = f"{self.name} differs from its baseline, but {self.fewer_images}"
        return f"{self.item.stash[RUN_ID]} {told}: raise --images, or {way}"

    def _agrees(self) -> bool:
        try:
            return bool(self.recorded and self.reference.agree(self.recorded, self.measured))
        except InputError:  # as of two precisions without a tolerance
            return False

    def renewed(self) -> str:
        """That images differ from the recorded ones, so that the record is written anew; else empty."""
        from phasebench.judge.drift.baselines import image_counts

        if self.recorded and self.reference.renews(self.recorded, self.measured):
            return f"{self.name} {image_counts(self.recorded, self.measured)} that are not all the same"
        return ""

    def skip(self, why: str) -> NoReturn:
        """Skip what cannot be compared, and count it."""
        attach(self.item, {"kind": UNCOMPARED})
        pytest.skip(why)

    def failure(self, baseline: Any) -> str:
        """What a failed assertion on syrupy's ``baseline`` says, with the model and dataset before it."""
        lines = [self.unreadable] if self.unreadable else baseline.get_assert_diff()
        against = f" against {self.reference.against}" if self.reference.against else ""
        name = self.name.removeprefix("verdicts/")
        return "\n".join([f"{self.item.stash[RUN_ID]}{against} {name}: {lines[0]}", *lines[1:]])

    def cause(self, curves: Curves) -> str:
        """The likely cause, read off all curves of the model and dataset, once."""
        from phasebench.judge.drift.cause import likely_cause

        run_id = self.item.stash[BASELINE_ID]
        causes = self.item.config.stash.setdefault(CAUSES, {})
        if run_id not in causes:
            causes[run_id] = likely_cause(self.reference, run_id, curves)
        return causes[run_id]
