"""Baselines: recorded curves and verdicts, read, compared and written through syrupy.

syrupy never looks for files here (it would delete what a run did not measure): each case names the
one file it compares with, ``<model>/<dataset>/<curve>.json`` or ``.../verdicts/<finding>.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollections
from syrupy.extensions.json import JSONSnapshotExtension

from phasebench.errors import InputError
from phasebench.judge.drift.baseline_folders import BASELINE_ID, FOLDERS, Folders
from phasebench.judge.drift.difference import Difference, compare
from phasebench.judge.drift.record import Record, dump, parse_record
from phasebench.judge.drift.tolerance import FILE, Tolerances


@dataclass(frozen=True)
class Reference:
    """What a run is held against.

    Attributes:
        folders: where baselines lie.
        tolerances: what numerical noise may do.
        against: the model whose baselines these are, where it is not the measured one itself.
        effect: standard deviations over images that it may differ by; None where it may not.
        renew: whether records of other images, and no fewer, take the place of those that agree with them.
    """

    folders: Folders
    tolerances: Tolerances
    against: str | None = None
    effect: float | None = None
    renew: bool = False

    @classmethod
    def of(
        cls, folders: Folders, against: str | None, effect: float | None, *, renew: bool = False
    ) -> Reference:
        """With the tolerances of the project, or those packaged.

        Raises:
            InputError: they cannot be read.
        """
        found = folders.find(FILE) or folders.packaged / FILE
        return cls(folders, Tolerances.read(found), against, effect, renew)

    def compare(self, recorded: Record, measured: Record) -> Difference:
        """Two records of one curve.

        Raises:
            InputError: the recorded one is a verdict's, or no tolerance was calibrated for their dtypes.
        """
        if "layers" not in recorded:
            name = measured["curve"]
            raise InputError(f"the baseline of {name} holds a verdict; rewrite it with --snapshot-update")
        return compare(recorded, measured, self.tolerances, self.effect)

    def agree(self, recorded: Record, measured: Record) -> bool:
        """Whether two records say the same: a curve within what is allowed, a verdict's outcome.

        A record that is to be renewed agrees with none.

        Raises:
            InputError: no tolerance was calibrated for their dtypes.
        """
        if self.renews(recorded, measured):
            return False
        if "verdict" in measured:
            return bool(recorded.get("verdict") == measured["verdict"])
        return "layers" in recorded and not self.compare(recorded, measured).drifted

    def renews(self, recorded: Record, measured: Record) -> bool:
        """Whether a record of other images is written anew although it may agree."""
        before, after = (record.get("provenance", {}).get("data") for record in (recorded, measured))
        return self.renew and before != after and not fewer_images(recorded, measured)


def read_record(path: Path) -> Record:
    """The record in a baseline file.

    Raises:
        InputError: it is not JSON, or not a record; the message names the file.
    """
    try:
        return parse_record(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"baseline {path} is not JSON: {error}; rewrite it with --snapshot-update"
        ) from error


def fewer_images(recorded: Record, measured: Record) -> bool:
    """Whether a record rests on fewer images than the recorded one."""
    return _images(measured) < _images(recorded)


def image_counts(recorded: Record, measured: Record) -> str:
    """``recorded on 60 images, measured on 8``."""
    return f"recorded on {_images(recorded)} images, measured on {_images(measured)}"


def _images(record: Record) -> int:
    return int(record.get("provenance", {}).get("images", 0))


def _verdict_lines(recorded: Record, measured: Record) -> Iterator[str]:
    """Both verdicts; where they rest on different numbers of images that too, since fewer decide less."""
    yield f"recorded: {recorded.get('verdict')}; now: {measured['verdict']} ({measured['detail']})"
    if _images(recorded) and _images(recorded) != _images(measured):
        needed = measured.get("images_needed")
        decides = f"; about {needed} would decide" if needed else ""
        yield f"{image_counts(recorded, measured)}{decides}"


class BaselineExtension(JSONSnapshotExtension):
    """syrupy's storage for baselines; the index of an assertion is its file's name."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def read_snapshot_data_from_location(
        self,
        *,
        snapshot_location: str,
        snapshot_name: str,  # noqa: ARG002 (syrupy's signature)
        session_id: str,  # noqa: ARG002
    ) -> str | None:
        """The project's own file, or the packaged one in its place."""
        folders = self.reference.folders
        path = folders.find(str(Path(snapshot_location).relative_to(folders.own)))
        return path.read_text(encoding="utf-8", errors="replace") if path else None

    @classmethod
    def dirname(cls, *, test_location: Any) -> str:
        """The project's own folder of the model and dataset that are compared with."""
        item = test_location.item
        return str(item.config.stash[FOLDERS].own / item.stash[BASELINE_ID])

    @classmethod
    def get_file_basename(cls, *, test_location: Any, index: Any) -> str:  # noqa: ARG003 (syrupy's signature)
        """The name that the case gave."""
        return str(index)

    @classmethod
    def matches_test_location(cls, *, test_location: Any, snapshot_location: str) -> bool:  # noqa: ARG003
        """Always: a baseline's name is its curve's, not its case's."""
        return True

    @classmethod
    def discovery_dirname(cls, *, test_location: Any) -> str:  # noqa: ARG003
        """Nothing is discovered; syrupy asks all the same."""
        return "."

    def discover_snapshots(self, *, test_location: Any, ignore_extensions: Any = None) -> SnapshotCollections:  # noqa: ARG002
        """None: syrupy deletes what it discovers and a run did not use."""
        return SnapshotCollections()

    def serialize(self, data: Any, **_: Any) -> str:
        """See ``dump``."""
        return dump(data)

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        """Within what is allowed; a file that is not a record never matches, so that it can be rewritten."""
        try:
            return self.reference.agree(parse_record(snapshot_data, "file"), json.loads(serialized_data))
        except InputError:
            return False

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """What a failed comparison says, worst layers first."""
        if not snapshot_data:
            yield "no baseline recorded; write it with --snapshot-update"
            return
        try:
            recorded, measured = parse_record(snapshot_data, "file"), json.loads(serialized_data)
            if "verdict" in measured:
                yield from _verdict_lines(recorded, measured)
            else:
                yield from self.reference.compare(recorded, measured).describe()
        except InputError as error:
            yield str(error)
