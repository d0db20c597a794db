"""The report: one file, nothing fetched, the numbers of the results file, a slider that changes the words."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from phasebench.catalog import CURVES
from phasebench.report import figures as drawing
from phasebench.report import html_page, outputs, plotly_figures
from phasebench.report.entries import DifferenceColumns
from phasebench.report.figure_model import CONTROL, Figure, Line
from phasebench.report.html_page import embedded, page
from phasebench.report.results import Results
from tests.support.entries import drift, finding, measurement
from tests.support.html import Page, page_of
from tests.support.runs import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the runs below: the pictures are measured by the first of them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def report_folder(folder_of_module: Path, run: Run, store: Path) -> Path:
    """The folder of a run of two models with its report and results, made once."""
    if not (folder_of_module / "r.html").exists():
        models = ("--model", "tiny-instructblip")
        targets = ("--results", f"{folder_of_module}/r.json", "--html", f"{folder_of_module}/r.html")
        assert run(*models, "--snapshot-update", "-m", "drift or finding", store=store).ret == 0
        result = run(*models, "-m", "drift or finding", *targets, store=store)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["phasebench: report written to *r.html"])
    return folder_of_module


@pytest.fixture
def report(report_folder: Path) -> Page:
    return Page((report_folder / "r.html").read_text(encoding="utf-8"))


@pytest.fixture
def results_runs(report_folder: Path) -> list[dict[str, Any]]:
    """The runs of the results file that was written beside the report."""
    runs: list[dict[str, Any]] = json.loads((report_folder / "r.json").read_text())["runs"]
    return runs


def test_every_element_is_closed_and_no_id_is_used_twice(report: Page) -> None:
    assert report.open == []
    ids = report.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in report.attributes("href") if link.startswith("#")]
    assert set(targets) | set(report.attributes("for", "aria-labelledby")) <= set(ids)


def test_nothing_is_fetched(report: Page) -> None:
    assert all(link.startswith(("#", "data:")) for link in report.attributes("src", "href"))
    (policy,) = [
        a["content"] for tag, a in report.elements if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"@import|url\(", report.text[: report.text.index("</style>")])


def test_every_control_can_be_reached_and_has_a_name(report: Page) -> None:
    assert not [a for tag, a in report.elements if "tabindex" in a]
    labelled = {a["for"] for tag, a in report.elements if tag == "label" and "for" in a}
    sliders = [a for tag, a in report.elements if tag == "input" and a["type"] == "range"]
    assert len(sliders) == 2
    assert {slider["id"] for slider in sliders} <= labelled
    assert all(a.get("alt") for tag, a in report.elements if tag == "img")
    assert all(a.get("aria-label") for tag, a in report.elements if a.get("role") == "img")


def test_both_themes(report: Page) -> None:
    style = report.text[: report.text.index("</style>")]
    assert "color-scheme: light dark" in style
    assert all("light-dark(" in value for value in re.findall(r"--(?:page|ink|link|good|bad): (.*);", style))
    assert "theme" in report.attributes("id")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_of_curves_is_the_results_file_to_the_last_digit(
    report: Page, results_runs: list[dict[str, Any]]
) -> None:
    table = {
        (row["model"], row["source"], row["curve"], row["layer"]): [row[key] for key in ("mean", "se", "n")]
        for row in rows(report.data["csv"]["curves"])
    }
    expected = {}
    for run in results_runs:
        sources = {"measured": run["curves"]}
        sources |= {f"control {name}": curves for name, curves in run["controls"].items()}
        sources["baseline"] = {name: drift["baseline"] for name, drift in run["drift"].items()}
        for source, curves in sources.items():
            for name, columns in curves.items():
                for layer, *values in zip(
                    *(columns[key] for key in ("layer", "mean", "se", "n")), strict=True
                ):
                    cells = ["" if value is None else json.dumps(value) for value in values]
                    expected[run["model"], source, name, str(layer)] = cells
    assert table == expected


def test_the_other_tables_have_the_numbers_of_the_results_file(
    report: Page, results_runs: list[dict[str, Any]]
) -> None:
    data = report.data["csv"]
    for run in results_runs:
        of_model = {
            name: [r for r in rows(text) if r["model"] == run["model"]] for name, text in data.items()
        }
        verdicts = {
            r["finding"]: (r["verdict"], r["value"]) for r in of_model["findings"] if not r["control"]
        }
        assert verdicts == {
            name: (f["verdict"], "" if f["value"] is None else json.dumps(f["value"]))
            for name, f in run["findings"].items()
        }
        assert {r["curve"]: r["excess"] for r in of_model["drift"]} == {
            name: json.dumps(d["excess"]) for name, d in run["drift"].items()
        }
        assert [int(r["layer"]) for r in of_model["phases"]] == run["findings"]["four_phases"]["phases"][
            "layers"
        ]
        mean = [r for r in of_model["attention"] if not r["image"]]
        assert [[r[str(j)] for j in range(len(run["heatmap"][0]))] for r in mean] == [
            [json.dumps(value) for value in row] for row in run["heatmap"]
        ]


def test_the_report_has_the_words_of_every_layer(report: Page, results_runs: list[dict[str, Any]]) -> None:
    examples = report.data["examples"]
    for run in results_runs:
        for image, layers in run["words"].items():
            assert examples[f"{run['model']}/pics/{image}"]["words"] == layers
            assert len(layers) == len(run["curves"]["inter"]["layer"])


def test_words_lie_over_the_picture_only_where_they_are_patches(report: Page) -> None:
    grids = {name.split("/")[0]: example["grid"] for name, example in report.data["examples"].items()}
    assert grids["tiny-llava"]["rows"] == 4
    assert grids["tiny-instructblip"] is None
    stages = [name for name in report.attributes("class") if name.startswith("stage")]
    assert sorted(stages) == ["stage", "stage", "stage grey", "stage grey", "stages", "stages"]


def test_the_papers_figures_with_baseline_and_other_model(report: Page) -> None:
    figures = report.data["figures"]
    for run_id in ("tiny-llava/pics", "tiny-instructblip/pics"):
        for name in ("1", "3", "4-heatmap", "4-heatmap-1", "4-heatmap-2", "4-lines", "4-shares", "5"):
            assert f"{run_id}/figure-{name}" in figures
        names = {trace.get("name") for trace in figures[f"{run_id}/figure-1"]["data"]}
        assert {"image to text", "image to text, baseline", "image to text, blank image"} <= names
    models = {trace.get("name") for trace in figures["models/pics/models-inter"]["data"]}
    assert {"tiny-llava", "tiny-instructblip"} <= models
    for figure in figures.values():
        go.Figure(figure)  # plotly checks every key
        assert figure["layout"]["xaxis"]["title"]["text"]
        assert figure["layout"]["yaxis"]["title"]["text"]


def test_lines_of_one_colour_differ_in_dash_or_marker(report: Page) -> None:
    for figure in report.data["figures"].values():
        looks = [
            (trace["line"]["dash"], trace["marker"]["symbol"], trace["meta"]["colour"])
            for trace in figure["data"]
            if trace["type"] == "scatter" and "name" in trace
        ]
        assert len(looks) == len(set(looks))


def test_the_legend_has_a_row_for_each_line_however_narrow_the_window_is() -> None:
    both = [Figure("f", "t", "c", "y", 4, [Line(str(k), [0], [0.5]) for k in range(n)]) for n in (2, 7)]
    few, many = (plotly_figures.plot(figure)["layout"] for figure in both)
    assert few["legend"]["orientation"] == "v"
    assert many["margin"]["b"] - few["margin"]["b"] == 5 * plotly_figures.ROW
    assert many["height"] - many["margin"]["b"] == few["height"] - few["margin"]["b"]


def test_the_controls_have_different_colours() -> None:
    columns = {"layer": [0, 1], "mean": [0.1, 0.2], "se": [0.0, 0.0], "n": [4, 4]}
    controls = {name: {"inter": columns} for name in ("blank", "projector", "text")}
    figure = next(drawing.run_figures(Results.of([measurement(controls=controls)]), "m/d"))
    dotted = [line for line in figure.lines if line.dash == CONTROL]
    assert len({line.colour for line in dotted}) == 3


BY_LAYER: DifferenceColumns = {
    "layer": [0, 1, 2], "difference": [None, 0.5, -0.25], "allowed": [None, 0.125, 0.25],
}  # fmt: skip


def test_the_difference_from_the_baseline_is_drawn_with_its_tolerance() -> None:
    report = page_of(drift("inter", 4.0, passed=False, by_layer=BY_LAYER))
    figure = report.data["figures"]["m/d/difference-inter"]
    band, zero, difference = figure["data"]
    assert band["x"] == [1, 2, 2, 1]
    assert band["y"] == [-0.125, -0.25, 0.25, 0.125]
    assert zero["y"] == [0, 0, 0]
    assert difference["y"] == [None, 0.5, -0.25]
    assert figure["layout"]["yaxis"]["title"]["text"] == "cosine"
    rows = re.findall(r'<tr><th scope="row">1</th><td>(.*?)</td><td>(.*?)</td></tr>', report.text)
    assert rows == [("0.5", "0.125")]


def test_the_worst_differences_are_shown_and_the_others_on_demand() -> None:
    drifted = [drift(name, 9.0 - k, passed=False, by_layer=BY_LAYER) for k, name in enumerate(CURVES[:6])]
    agreeing = drift("lift", 0.5, passed=True, by_layer=BY_LAYER)
    report = page_of(agreeing, *drifted)
    keys = [a["data-figure"] for _, a in report.elements if "data-figure" in a]
    assert keys == [f"m/d/difference-{name}" for name in (*CURVES[:6], "lift")]
    before, after = report.text.split('<details class="more">')
    assert before.count("data-figure=") == html_page.DRAWN_DIFFERENCES
    assert "Differences of the other 3 curves" in after
    assert f'href="#m/d/difference-{CURVES[0]}"' in before


def test_names_and_captions_are_escaped() -> None:
    assert "</script" not in embedded({"words": "</script><b>"})
    text = page(Results.of([finding(run="<m>/d", detail="<script>", claim="<script>")]))
    assert html.escape("<m>/d") in text
    assert "<script>" not in text.replace("<script>\n", "").split('id="data"')[0]
    assert Page(text).open == []


def test_links_reach_names_with_spaces(run: Run, pytester: pytest.Pytester, store: Path) -> None:
    """An attribute that names ids takes a space for the end of one."""
    (pytester.path / "pics").rename(pytester.path / "my own pics")
    run("-m", "finding", "--html", "r.html", dataset="my own pics", store=store)
    report = Page((pytester.path / "r.html").read_text())
    ids, links = report.attributes("id"), [link for link in report.attributes("href") if link[0] == "#"]
    assert "#tiny-llava/my_own_pics" in links
    assert {link[1:] for link in links} | set(report.attributes("aria-labelledby", "for")) <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_run_that_measured_nothing_says_so() -> None:
    assert "Nothing was measured." in page(Results.of([]))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--html", "pics", "--html pics: is a folder; name a file"),
        ("--html", "file.txt/x/r.html", "--html file.txt/x/r.html: file.txt is a file; name another folder"),
        ("--figures", "file.txt", "--figures file.txt: is a file; name a folder"),
        ("--figures", "file.txt/x", "--figures file.txt/x: file.txt is a file; name another folder"),
    ],
)
def test_targets_that_cannot_be_written_stop_the_run(
    run: Run, pytester: pytest.Pytester, option: str, value: str, message: str
) -> None:
    (pytester.path / "file.txt").write_text("x")
    result = run(option, value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


@pytest.mark.parametrize(("option", "library"), [("--html", "plotly"), ("--figures", "matplotlib")])
def test_a_missing_library_stops_the_run_before_any_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str, library: str
) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda name: None if name == library else True)
    result = run(option, "somewhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option} needs {library}: pip install 'phasebench[[]report[]]'"])


def test_the_option_has_another_name_where_another_plugin_has_it(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(theirs="def pytest_addoption(parser): parser.addoption('--html')")
    pytester.syspathinsert()
    from _pytest.config import PytestPluginManager

    has = PytestPluginManager.has_plugin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PytestPluginManager, "has_plugin", lambda s, name: name == "html" or has(s, name))
        result = run("-p", "theirs", "--phasebench-html", "pics")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*html pics: is a folder; name a file"])


def page_in_browser(path: Path, fragment: str, profile: Path) -> tuple[str, str]:
    """The document as Chromium has it after its scripts, and what it logged."""
    assert CHROMIUM is not None
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--enable-logging=stderr", "--v=0", "--virtual-time-budget=10000", "--dump-dom",
    )  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={profile}", f"file://{path}#{fragment}"],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_slider_changes_the_words_in_a_browser(
    report_folder: Path, report: Page, results_runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    tokens_by_layer, lines_by_layer = {}, {}
    for layer in (0, 3):
        text, log = page_in_browser(
            report_folder / "r.html", f"all&theme=dark&layer={layer}", tmp_path / str(layer)
        )
        assert "CONSOLE" not in log
        assert 'data-ready="yes"' in text
        assert 'data-theme="dark"' in text
        body = text[: text.index('id="data"')]
        assert len(re.findall(r'class="[^"]*svg-container', body)) == len(report.data["figures"])
        tokens = re.findall(r'title="image token \d+: (.*?)"', body)
        tokens_by_layer[layer] = [html.unescape(token) for token in tokens]
        words = [run["words"][image][layer] for run in results_runs for image in run["words"]]
        assert len([token for token in tokens if not token.endswith(" %")]) == sum(map(len, words))
        assert f"layer {layer} of 6" in body
        lines_by_layer[layer] = re.findall(r'<path[^>]*data-index="\d+"[^>]* d="(.*?)"', body)
        assert (f"Attention at layer {layer}: " in body) is (layer > 0)
    assert tokens_by_layer[0] != tokens_by_layer[3]
    assert len(lines_by_layer[0]) == len(lines_by_layer[3]) >= 4
    assert lines_by_layer[0] != lines_by_layer[3]
