"""Figures for a paper: a PNG and a PDF of each, in a folder for each model and dataset."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_pdf  # noqa: F401 (imported here, it outlives pytest runs inside tests)
import numpy as np
import pytest

from phasebench.report import figures, matplotlib_figures
from phasebench.report.figure_model import Figure
from phasebench.report.results import Results
from tests.support.entries import PHASES, finding, measurement
from tests.support.runs import Run

HEATMAP = [[0.1 + layer * position for position in range(50)] for layer in range(40)]


def figure_names(folder: Path) -> set[str]:
    """The figures below a folder; each is there as PNG and PDF."""
    names = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.*")}
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return names


@pytest.mark.slow
def test_a_run_writes_its_figures_as_png_and_pdf(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    result = run("-m", "finding", "--snapshot-update", "--figures", str(folder))
    names = figure_names(folder)
    assert {"tiny-llava/pics/figure-1", "tiny-llava/pics/figure-5"} <= names
    result.stdout.fnmatch_lines([f"phasebench: {len(names)} figures written to {folder}, as PNG and PDF"])


@dataclass
class NamedCanvas:
    """Stands for a drawn figure; writes the beginning of a file of its kind."""

    figure: Figure

    def savefig(self, file: io.BytesIO, format: str, **_: Any) -> None:  # noqa: A002 (matplotlib's signature)
        file.write({"png": b"\x89PNG", "pdf": b"%PDF"}[format])


def test_every_figure_of_every_model_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_figures, "draw", NamedCanvas)
    runs = Results.of([measurement(run=f"{model}/my: pics", heatmap=HEATMAP) for model in ("a", "b")])
    count = matplotlib_figures.write(tmp_path, runs)
    numbers = ("1", "3", "4-heatmap", "4-lines", "4-shares", "5")
    compared = ("inter", "intra_visual", "intra_text", "share_first5", "total", "recall")
    expected = {f"{model}/my__pics/figure-{number}" for model in ("a", "b") for number in numbers}
    expected |= {f"by-model/my__pics/models-{curve}" for curve in compared}
    assert figure_names(tmp_path) == expected
    assert count == len(expected)


def test_a_figure_by_model_has_a_line_for_each_over_relative_depth() -> None:
    runs = Results.of([measurement(run=f"{model}/d") for model in ("a", "b")])
    ((dataset, (figure, *_)),) = figures.model_comparisons(runs)
    (axes,) = matplotlib_figures.draw(figure).axes
    assert (dataset, figure.id) == ("d", "models-inter")
    assert axes.get_xlabel() == "relative depth (layer / last layer)"
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert [np.max(line.get_xdata()) for line in axes.lines] == [1.0, 1.0]


def test_a_figure_by_layer_marks_where_phases_meet() -> None:
    results = Results.of([measurement(), finding(data={"phases": PHASES})])
    (axes,) = matplotlib_figures.draw(next(figures.run_figures(results, "m/d"))).axes
    assert [text.get_text() for text in axes.texts] == ["I rise", "II fall", "III rise", "IV fall"]
    xs = [np.unique(np.asarray(line.get_xdata(), dtype=np.float64)) for line in axes.lines]
    assert [x[0] for x in xs if x.size == 1] == PHASES["layers"]


def test_a_heatmap_has_a_bracket_over_the_image_tokens() -> None:
    drawn = list(figures.run_figures(Results.of([measurement(heatmap=HEATMAP)]), "m/d"))
    (heatmap,) = [figure for figure in drawn if figure.heat]
    axes, scale = matplotlib_figures.draw(heatmap).axes
    assert [text.get_text() for text in axes.texts] == ["image tokens"]
    assert (axes.get_xlabel(), scale.get_ylabel()) == ("position in the prompt", "norm")
