"""The folders of baselines: the project's own, and the packaged one that is read where it has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """The project's folder, where baselines are written, and the packaged one, read if it has none."""

    own: Path
    packaged: Path

    def find(self, relative: str) -> Path | None:
        """The file of this name: the project's own, else the packaged one; None if neither exists."""
        paths = (self.own / relative, self.packaged / relative)
        return next((path for path in paths if path.is_file()), None)

    def has(self, baseline_id: str) -> bool:
        """Whether any curve or verdict of ``<model>/<dataset>`` is recorded."""
        return any(any((root / baseline_id).rglob("*.json")) for root in (self.own, self.packaged))

    def datasets_by_model(self) -> dict[str, list[str]]:
        """For each model the datasets on which curves or verdicts are recorded."""
        datasets: dict[str, set[str]] = {}
        for root in (self.packaged, self.own):
            for path in root.glob("*/*/**/*.json"):
                model, dataset, *_ = path.relative_to(root).parts
                datasets.setdefault(model, set()).add(dataset)
        return {model: sorted(datasets[model]) for model in sorted(datasets)}

    def datasets_with_verdicts(self, model: str) -> list[str]:
        """The datasets on which verdicts of ``model`` are recorded."""
        folders = [path for root in (self.own, self.packaged) for path in root.glob(f"{model}/*/verdicts")]
        return sorted({path.parent.name for path in folders})

    def stale_files(self, run_id: str, curves: set[str]) -> list[Path]:
        """The project's own files of ``<model>/<dataset>`` that are named after none of the ``curves``."""
        return sorted(path for path in (self.own / run_id).glob("*.json") if path.stem not in curves)
