"""The state of a run of ``pytest --phasebench`` and of each of its cases.

A ``Run`` is stored on pytest's configuration, a ``Case`` on each item that has a model and a dataset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from phasebench.judge.drift.baseline_folders import Folders
from phasebench.report.entries import Entry
from phasebench.report.outputs import CASE_PROPERTIES
from phasebench.settings import BaselineMode, Settings

if TYPE_CHECKING:
    from phasebench.datasets.named_datasets import DatasetSpec
    from phasebench.datasets.selection import Selection
    from phasebench.judge.drift.reference import Reference
    from phasebench.judge.findings.finding import Finding
    from phasebench.models.named_models import ModelSpec
    from phasebench.plugin.blocking import Block

AnyEntry = TypeVar("AnyEntry", bound=Entry)


@dataclass
class Run:
    """The models, datasets and settings of a run, and its state.

    Attributes:
        settings: the settings of loading and measuring.
        mode: what the run may do with baselines.
        folders: the folders of baselines.
        against: the model whose baselines the run is compared with; None for each model's own.
        effect: the allowed difference from ``against``, in standard deviations over images.
        models: specs by name, in the order of the command line.
        datasets: specs by name.
        findings: the findings of the user's hooks, by id.
        selections: dataset -> the samples drawn from it.
        measured_rows: model -> names of its rows that this run has measured, on any dataset.
        reported: ``<model>/<dataset>`` of the measurements that an item has attached.
        case: the id of the case that runs now, or ran last.
        blocks: model, or ``<model>/<dataset>`` -> the cause that blocks its cases.
        causes: ``<model>/<dataset>`` of baselines -> the likely cause of the drift from them.
        threads: torch's number of threads before workers shared the cores; 0 if not read yet.
        interrupted: a message about an interrupted measurement; empty without one.
    """

    settings: Settings
    mode: BaselineMode
    folders: Folders
    against: str | None = None
    effect: float | None = None
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    selections: dict[str, Selection] = field(default_factory=dict)
    measured_rows: dict[str, set[str]] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    case: str = ""
    blocks: dict[str, Block] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    threads: int = 0
    interrupted: str = ""

    @cached_property
    def reference(self) -> Reference:
        """The baselines and tolerances that measurements are compared with.

        Raises:
            InputError: the tolerances cannot be read.
        """
        from phasebench.judge.drift.reference import Reference

        return Reference.read(self.folders, self.against, self.effect)


@dataclass
class Case:
    """The model and dataset of a case, and its entries for the report.

    Attributes:
        model, dataset: their names.
        baseline_model: the model whose baselines the case is compared with.
        entries: the entries attached so far.
    """

    model: str
    dataset: str
    baseline_model: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """``<model>/<dataset>``."""
        return f"{self.model}/{self.dataset}"

    @property
    def baseline_id(self) -> str:
        """``<model>/<dataset>`` of the baselines."""
        return f"{self.baseline_model}/{self.dataset}"


RUN = pytest.StashKey[Run]()
CASE = pytest.StashKey[Case]()


def run_of(config: pytest.Config) -> Run:
    """The run of this process."""
    return config.stash[RUN]


def case_of(item: pytest.Item) -> Case:
    """The case of an item; only items with a measurement have one."""
    return item.stash[CASE]


def parameters(item: pytest.Item) -> dict[str, Any]:
    """The values that the item is parametrised with, by name."""
    return dict(getattr(getattr(item, "callspec", None), "params", {}))


def attach(item: pytest.Item, entry: AnyEntry) -> AnyEntry:
    """Attach an entry to the item's report and return it; its single values also become JUnit properties.

    An entry without ``passed`` takes the outcome of the case.
    """
    case = case_of(item)
    entry.run = case.run_id
    case.entries.append(entry)
    item.user_properties += [pair for properties in CASE_PROPERTIES for pair in properties(entry)]
    return entry
