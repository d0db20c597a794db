"""phasebench measures a vision large language model layer by layer, and detects changes inside it.

``__all__`` is the public API, which docs/api.md describes. Each name is imported when it is first used, so
that an installed phasebench does not slow down other projects' pytest runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phasebench.api import measure
    from phasebench.curves import Curves
    from phasebench.datasets.layouts import read_folder
    from phasebench.datasets.named_datasets import DatasetSpec
    from phasebench.datasets.sample import Sample
    from phasebench.errors import InputError
    from phasebench.judge.findings.contrast import Contrast, contrasts
    from phasebench.judge.findings.finding import FINDINGS, Evidence, Finding, finding
    from phasebench.judge.findings.verdict import Condition, Outcome, Verdict, verdict
    from phasebench.judge.statistics import Estimate, estimate, estimates, resampled_means
    from phasebench.models.named_models import ModelSpec
    from phasebench.report.dataframes import load_results

from phasebench.version import __version__

__all__ = [
    "FINDINGS",
    "Condition",
    "Contrast",
    "Curves",
    "DatasetSpec",
    "Estimate",
    "Evidence",
    "Finding",
    "InputError",
    "ModelSpec",
    "Outcome",
    "Sample",
    "Verdict",
    "__version__",
    "contrasts",
    "estimate",
    "estimates",
    "finding",
    "load_results",
    "measure",
    "read_folder",
    "resampled_means",
    "verdict",
]
MODULES = {
    "curves": ("Curves",),
    "datasets.layouts": ("read_folder",),
    "datasets.named_datasets": ("DatasetSpec",),
    "datasets.sample": ("Sample",),
    "errors": ("InputError",),
    "judge.findings.contrast": ("Contrast", "contrasts"),
    "judge.findings.finding": ("FINDINGS", "Evidence", "Finding", "finding"),
    "judge.findings.verdict": ("Condition", "Outcome", "Verdict", "verdict"),
    "judge.statistics": ("Estimate", "estimate", "estimates", "resampled_means"),
    "api": ("measure",),
    "models.named_models": ("ModelSpec",),
    "report.dataframes": ("load_results",),
}
"""Module below ``phasebench`` -> the public names that it defines."""


if not TYPE_CHECKING:  # with a __getattr__, a type checker would accept every name

    def __getattr__(name: str) -> Any:
        for module, names in MODULES.items():
            if name in names:
                return getattr(import_module(f"phasebench.{module}"), name)
        raise AttributeError(f"module 'phasebench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
