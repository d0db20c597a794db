"""Baselines: recorded curves and verdicts, read, compared and written through syrupy.

syrupy never looks for files here (it would delete what a run did not measure): each case names the
one file it compares with, ``<model>/<dataset>/<curve>.json`` or ``.../verdicts/<finding>.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollections
from syrupy.extensions.json import JSONSnapshotExtension

from phasebench.errors import InputError
from phasebench.judge.drift import compare
from phasebench.places import FOLDERS, PLACE, Folders


def read_record(path: Path) -> dict[str, Any]:
    """The record in a baseline file.

    Raises:
        InputError: it is not JSON, or not a record; the message names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"baseline {path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not ({"layers", "provenance"} <= set(found) or "verdict" in found):
        raise InputError(f"baseline {path} is no record of a curve or verdict")
    return found


def dump(data: dict[str, Any]) -> str:
    """A record as text with one layer a line, so that a difference reads in a diff."""
    lines = []
    for key, value in data.items():
        if key == "layers":
            rows = ",\n".join("  " + json.dumps(layer) for layer in value)
            lines.append(f' "layers": [\n{rows}\n ]')
        else:
            indent = 1 if isinstance(value, dict) else None
            text = json.dumps(value, indent=indent).replace("\n", "\n ")
            lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def agree(recorded: dict[str, Any], measured: dict[str, Any]) -> bool:
    """Whether two records say the same: a curve within tolerance, a verdict's outcome."""
    if "verdict" in measured:
        return bool(recorded.get("verdict") == measured["verdict"])
    if "layers" not in recorded:
        return False
    return not compare(recorded, measured).drifted


class BaselineExtension(JSONSnapshotExtension):
    """syrupy's storage for baselines; the index of an assertion is its file's name."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def read_snapshot_data_from_location(
        self,
        *,
        snapshot_location: str,
        snapshot_name: str,  # noqa: ARG002 (syrupy's signature)
        session_id: str,  # noqa: ARG002
    ) -> str | None:
        """The project's own file, or the packaged one in its place."""
        path = self.folders.find(str(Path(snapshot_location).relative_to(self.folders.own)))
        return path.read_text(encoding="utf-8") if path else None

    @classmethod
    def dirname(cls, *, test_location: Any) -> str:
        """The project's own folder of this model and dataset."""
        item = test_location.item
        return str(item.config.stash[FOLDERS].own / item.stash[PLACE])

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
        """Within tolerance; a file that is no record never matches, so that it can be rewritten."""
        try:
            return agree(json.loads(snapshot_data), json.loads(serialized_data))
        except (ValueError, KeyError, TypeError, AttributeError):
            return False

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """What a failed comparison says, worst layers first."""
        if not snapshot_data:
            yield "no baseline recorded; write it with --snapshot-update"
            return
        try:
            recorded, measured = json.loads(snapshot_data), json.loads(serialized_data)
            if "verdict" in measured:
                verdict = f"{measured['verdict']} ({measured['detail']})"
                yield f"recorded: {recorded.get('verdict')}; now: {verdict}"
            else:
                yield from compare(recorded, measured).told()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield f"the recorded baseline cannot be read ({error!r}); rewrite it with --snapshot-update"
