"""syrupy's storage of baselines: it reads, compares and writes the file that a case names.

The file is ``<model>/<dataset>/<curve>.json`` or ``.../verdicts/<finding>.json``. syrupy does not search for
files here, because it would delete those that a run did not measure.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.json import JSONSnapshotExtension

from phasebench.errors import InputError
from phasebench.files import write_whole
from phasebench.judge.drift.decision import Action, Decision, decide
from phasebench.judge.drift.record import dump, parse_record
from phasebench.plugin.run import Run, case_of, run_of


class BaselineExtension(JSONSnapshotExtension):
    """Storage in which the index of an assertion is its file's name, and ``decide`` compares records."""

    write_immediately = True
    """So that a case reports its own error; syrupy would write all files at the end of the session."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def read_snapshot_data_from_location(
        self,
        *,
        snapshot_location: str,
        snapshot_name: str,  # noqa: ARG002 (syrupy's signature)
        session_id: str,  # noqa: ARG002
    ) -> str | None:
        """The text of the project's own file, or else of the packaged one."""
        folders = self.run.folders
        path = folders.find(str(Path(snapshot_location).relative_to(folders.own)))
        return path.read_text(encoding="utf-8", errors="replace") if path else None

    @classmethod
    def dirname(cls, *, test_location: Any) -> str:
        """The project's own folder for the baselines of the case's model and dataset."""
        item = test_location.item
        return str(run_of(item.config).folders.own / case_of(item).baseline_id)

    @classmethod
    def get_file_basename(cls, *, test_location: Any, index: Any) -> str:  # noqa: ARG003 (syrupy's signature)
        """The name that the case passed as index."""
        return str(index)

    @classmethod
    def matches_test_location(cls, *, test_location: Any, snapshot_location: str) -> bool:  # noqa: ARG003
        """Always true: a baseline is named after its curve, not after its case."""
        return True

    @classmethod
    def discovery_dirname(cls, *, test_location: Any) -> str:  # noqa: ARG003
        """A folder that syrupy requires, although nothing is discovered."""
        return "."

    def discover_snapshots(self, *, test_location: Any, ignore_extensions: Any = None) -> SnapshotCollections:  # noqa: ARG002
        """None: syrupy deletes what it discovers and a run did not use."""
        return SnapshotCollections()

    @classmethod
    def write_snapshot(cls, **kwargs: Any) -> None:
        """Without the warning of syrupy before 7, which did not ask ``matches_test_location``."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Can not relate snapshot location", UserWarning)
            super().write_snapshot(**kwargs)

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: SnapshotCollection, **_: Any) -> None:
        """Write the file atomically: syrupy empties it first."""
        (snapshot,) = snapshot_collection
        write_whole(Path(snapshot_collection.location), str(snapshot.data).encode())

    def serialize(self, data: Any, **_: Any) -> str:
        """The record as text (``judge.drift.record.dump``)."""
        return dump(data)

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        """Whether the record is accepted; a file that is no record never matches, so that it is rewritten."""
        return self._decide(serialized_data, snapshot_data).action is Action.ACCEPT

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """The lines of a failed comparison, worst layers first."""
        if not snapshot_data:
            yield "no baseline recorded; write it with --snapshot-update"
        else:
            yield from self._decide(serialized_data, snapshot_data).lines

    def _decide(self, serialized_data: str, snapshot_data: str) -> Decision:
        try:
            recorded = parse_record(snapshot_data, "file")
        except InputError as error:
            return decide(error, {}, self.run.mode, self.run.reference)
        return decide(recorded, json.loads(serialized_data), self.run.mode, self.run.reference)
