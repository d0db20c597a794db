"""One case's comparison with its baseline: what is recorded, how it differs, and what the case says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from phasebench.baseline_folders import BASELINE_ID, FOLDERS, RUN_ID
from phasebench.collector import UNCOMPARED, attach
from phasebench.errors import InputError

if TYPE_CHECKING:
    from phasebench.curves import Curves
    from phasebench.judge.baselines import Reference
    from phasebench.judge.drift import Difference

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
    measured: dict[str, Any]

    @cached_property
    def reference(self) -> Reference:
        """What the run is compared with."""
        from phasebench.session import REFERENCE

        return self.item.config.stash[REFERENCE]

    @cached_property
    def path(self) -> Path | None:
        """The baseline's file; None where nothing is recorded."""
        folders = self.item.config.stash[FOLDERS]
        return folders.find(f"{self.item.stash[BASELINE_ID]}/{self.name}.json")

    @cached_property
    def recorded(self) -> dict[str, Any] | None:
        """The recorded one; None where there is none, or none that can be read."""
        from phasebench.judge.baselines import read_record

        try:
            return read_record(self.path) if self.path else None
        except InputError:
            return None

    @property
    def updating(self) -> bool:
        """Whether what is not recorded, or differs, is about to be written."""
        option = self.item.config.option
        return bool(option.update_snapshots or option.update_new_snapshots_only)

    @property
    def fewer_images(self) -> str:
        """That this run has fewer images than are recorded, in words; empty where it has not."""
        from phasebench.judge.baselines import fewer_images, image_counts

        if self.recorded and fewer_images(self.recorded, self.measured):
            return image_counts(self.recorded, self.measured)
        return ""

    @property
    def not_recorded(self) -> str:
        """What is said where nothing is recorded."""
        return f"no baseline for {self.item.stash[BASELINE_ID]}/{self.name}; write it with --snapshot-update"

    def loses_images(self) -> str:
        """Why ``--snapshot-update`` must not write: the file rests on more images, as do others beside it."""
        if not self.item.config.option.update_snapshots or not self.fewer_images or self._agrees():
            return ""
        assert self.path is not None  # noqa: S101 - something is recorded
        own = self.path.is_relative_to(self.item.config.stash[FOLDERS].own)
        way = f"remove {self.path.parent}" if own else "name the model anew (--model NAME=...)"
        told = f"{self.name} differs from its baseline, but {self.fewer_images}"
        return f"{self.item.stash[RUN_ID]} {told}: raise --images, or {way}"

    def _agrees(self) -> bool:
        try:
            return bool(self.recorded and self.reference.agree(self.recorded, self.measured))
        except InputError:  # as of two precisions without a tolerance
            return False

    def difference(self) -> Difference:
        """How a curve differs from the recorded one.

        Raises:
            InputError: nothing readable is recorded, or there is no tolerance for the two dtypes.
        """
        from phasebench.judge.baselines import read_record

        if self.path is None:
            raise InputError("first recorded")
        return self.reference.compare(self.recorded or read_record(self.path), self.measured)

    def renewed(self) -> str:
        """That images differ from the recorded ones, so that the record is written anew; else empty."""
        from phasebench.judge.baselines import image_counts

        if self.recorded and self.reference.renews(self.recorded, self.measured):
            return f"{self.name} {image_counts(self.recorded, self.measured)} that are not all the same"
        return ""

    @property
    def strict(self) -> bool:
        """Whether the case fails where there is nothing to compare with."""
        return bool(self.item.config.option.strict_baselines)

    def skip(self, why: str) -> NoReturn:
        """Skip what cannot be compared, and count it."""
        attach(self.item, {"kind": UNCOMPARED})
        pytest.skip(why)

    def failure(self, baseline: Any) -> str:
        """What a failed assertion on syrupy's ``baseline`` says, with the model and dataset before it."""
        from phasebench.judge.baselines import read_record

        lines = baseline.get_assert_diff()
        if self.path and self.recorded is None:
            try:
                read_record(self.path)
            except InputError as error:  # which names the file, as syrupy's cannot
                lines = [str(error)]
        against = f" against {self.reference.against}" if self.reference.against else ""
        name = self.name.removeprefix("verdicts/")
        return "\n".join([f"{self.item.stash[RUN_ID]}{against} {name}: {lines[0]}", *lines[1:]])

    def cause(self, curves: Curves) -> str:
        """The likely cause, read off all curves of the model and dataset, once."""
        from phasebench.judge.cause import likely_cause

        run_id = self.item.stash[BASELINE_ID]
        causes = self.item.config.stash.setdefault(CAUSES, {})
        if run_id not in causes:
            causes[run_id] = likely_cause(self.reference, run_id, curves)
        return causes[run_id]
