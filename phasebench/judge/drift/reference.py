"""The reference of a run: folders of baselines, tolerances, and the comparison of two records of a curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phasebench.errors import InputError
from phasebench.judge.drift.baseline_folders import Folders
from phasebench.judge.drift.difference import Difference, compare
from phasebench.judge.drift.record import Record, parse_record
from phasebench.judge.drift.tolerance import FILE, Tolerances


@dataclass(frozen=True)
class Reference:
    """The baselines that a run is compared with, and how.

    Attributes:
        folders: the folders of baselines.
        tolerances: the differences that numerical noise may cause.
        against: the model whose baselines these are; None for the measured model's own.
        effect: the difference that is allowed between two models, in standard deviations over images; None
            if only noise is allowed.
    """

    folders: Folders
    tolerances: Tolerances
    against: str | None = None
    effect: float | None = None

    @classmethod
    def read(cls, folders: Folders, against: str | None = None, effect: float | None = None) -> Reference:
        """Make a reference with the tolerances of the project, or else the packaged ones.

        Raises:
            InputError: the tolerances cannot be read.
        """
        path = folders.find(FILE) or folders.packaged / FILE
        return cls(folders, Tolerances.read(path), against, effect)

    def compare(self, recorded: Record, measured: Record) -> Difference:
        """How two records of one curve differ.

        Raises:
            InputError: ``recorded`` is a verdict, or no tolerance was calibrated for their dtypes.
        """
        if "layers" not in recorded:
            raise InputError(f"the baseline of {measured['curve']} holds a verdict", remedy="update")
        return compare(recorded, measured, self.tolerances, self.effect)


def read_record(path: Path) -> Record:
    """The record in a baseline file.

    Raises:
        InputError: it is not JSON, or not a record; the message names the file.
    """
    try:
        return parse_record(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise InputError(f"baseline {path} is not JSON: {error}", remedy="update") from error
