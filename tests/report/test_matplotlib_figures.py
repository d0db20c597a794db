"""Figures for a paper: a PNG and a PDF of each, in a folder for each model and dataset."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.backends.backend_pdf
import numpy as np
import pytest
from cycler import cycler
from PIL import Image

from phasebench.catalog import CURVES
from phasebench.report import figures, matplotlib_figures
from phasebench.report.figure_model import Boundary, Figure, Line
from phasebench.report.results import Results
from tests.support.entries import COLUMNS, PHASES, finding, measurement
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


def test_an_image_has_no_title_and_300_dots_an_inch_at_the_width_of_a_column(tmp_path: Path) -> None:
    results = Results.of([measurement(heatmap=HEATMAP, curves=dict.fromkeys(CURVES, COLUMNS))])
    matplotlib_figures.write(tmp_path, results)
    with (
        Image.open(tmp_path / "m" / "d" / "figure-3.png") as line,
        Image.open(tmp_path / "m" / "d" / "figure-4-heatmap.png") as heatmap,
    ):
        assert line.width == 1005
        assert heatmap.width == pytest.approx(2.1 * line.width, abs=2)
    for figure in figures.run_figures(results, "m/d"):
        assert not matplotlib_figures.draw(figure).axes[0].get_title()
    pdf = (tmp_path / "m" / "d" / "figure-3.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, and so real text


def test_what_the_user_set_in_matplotlib_is_kept() -> None:
    with matplotlib.rc_context({"font.size": 11, "pdf.fonttype": 42}):
        kept = matplotlib_figures.defaults()
    assert not {"font.size", "pdf.fonttype"} & set(kept)
    assert kept["savefig.dpi"] == 300
    cycle = cycler(color=["#123456"])
    results = Results.of([measurement()])
    with matplotlib.rc_context({"axes.prop_cycle": cycle, "figure.figsize": (9, 9)}):
        canvas = matplotlib_figures.draw(next(figures.run_figures(results, "m/d")))
    assert tuple(canvas.get_size_inches()) == (9, 9)
    assert {line.get_color() for line in canvas.axes[0].lines} == {"#123456"}


@pytest.mark.parametrize(("name", "rows"), [("short", 1), ("a name that needs the whole column", 2)])
def test_a_legend_is_not_wider_than_its_figure(name: str, rows: int) -> None:
    lines = [Line(f"{name} {number}", [0, 1], [0.0, 1.0], (), number) for number in range(2)]
    with matplotlib.rc_context(matplotlib_figures.defaults()):
        canvas = matplotlib_figures.draw(Figure("f", "title", "", "y", 1, lines))
        (legend,) = canvas.legends
        assert legend.get_window_extent().width <= canvas.bbox.width
        assert canvas.get_size_inches()[1] == pytest.approx(2.2 + rows * matplotlib_figures.LEGEND_ROW)


def test_names_of_short_phases_stand_in_different_rows() -> None:
    ends = [Boundary(layer, None, None) for layer in (18, 19, 20)]
    names = ["I rise", "II fall", "III rise", "IV fall"]
    figure = Figure("f", "t", "c", "y", 21, (), None, names, ends)
    labels = figure.phase_labels(40)
    assert [name for name, _, _ in labels] == names
    assert [row for _, _, row in labels] == [0, 0, 1, 2]
    assert all(0 < x < 21 for _, x, _ in labels)
