"""The documentation: it builds without a warning, its examples run, its commands and numbers are real."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from phasebench.catalog import CURVES
from phasebench.models.loading import LoadedModel
from tests.support.pictures import write_pictures
from tests.support.runs import FINDING_IDS, Run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TINY = "<s> user : <image> describe the picture . assistant :"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])


def blocks(page: str, language: str) -> list[str]:
    """The fenced examples of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "findings" / "four_phases.html").read_text(encoding="utf-8")
    assert "../_images/" in page
    addresses = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]*)"', page)
    assert addresses == []


@pytest.mark.parametrize("finding", FINDING_IDS)
def test_each_finding_has_a_page_with_claim_definition_limits_and_figure(finding: str) -> None:
    text = (DOCS / "findings" / f"{finding}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {finding}\n")
    headings = ["The paper", "Definition", "What breaks it", "In the bundled models"]
    assert re.findall(r"^## (.*)$", text, re.M) == headings
    assert re.search(r"^!\[.+\]\(\.\./figures/.+\.png\)", text, re.M)


MODELS = ("smol-llava", "smol-instructblip")
VERDICT = re.compile(r"`(smol-\w+)` on `([\w-]+)`: \*\*([a-z ]+)\*\*(?:, (-?\d+(?:\.\d+)?))?")


@pytest.mark.parametrize("finding", FINDING_IDS)
def test_a_findings_page_has_the_recorded_verdicts(finding: str) -> None:
    text = (DOCS / "findings" / f"{finding}.md").read_text(encoding="utf-8")
    rows = VERDICT.findall(text)
    assert {(model, data) for model, data, *_ in rows} == {(model, "scenes") for model in MODELS}
    for model, data, verdict, value in rows:
        path = ROOT / "baselines" / model / data / "verdicts" / f"{finding}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        assert verdict == record["verdict"]
        assert value == ("" if record["value"] is None else f"{record['value']:.3g}")


def test_every_curve_is_on_the_results_page() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert [curve for curve in CURVES if f"`{curve}`" not in text] == []


@pytest.fixture
def run_with_examples(run: Run, pytester: pytest.Pytester, cache: Path) -> Run:
    """``run`` in a project with all examples of docs/extending.md in its conftest.py."""
    from phasebench.models.bundled.tiny import make_tiny_model

    (pytester.path / "checkpoints").mkdir()
    (pytester.path / "checkpoints" / "llava-ft").symlink_to(make_tiny_model("tiny-llava", cache))
    pictures = pytester.path / "pictures"
    pictures.mkdir()
    for path in (pytester.path / "pics" / "val").iterdir():
        path.rename(pictures / path.name)
        (pictures / path.name).with_suffix(".txt").write_text("a dog on a red background")
    examples = blocks("docs/extending.md", "python")
    (case,) = (example for example in examples if example.startswith("# cases/"))
    (pytester.path / "cases").mkdir()
    (pytester.path / case.splitlines()[0].removeprefix("# ")).write_text(case)
    pytester.makeconftest("\n".join(example for example in examples if example != case))
    return run


def test_the_examples_add_a_model_a_dataset_findings_and_an_output(
    run_with_examples: Run, pytester: pytest.Pytester
) -> None:
    result = run_with_examples("--prompt", TINY, "-m", "finding", model="our-llava", dataset="our-pictures")
    result.stdout.fnmatch_lines(["*phasebench our-llava/our-pictures*", "ends_high*", "sees_more_late*"])
    assert result.ret in (0, 1)
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) + outcomes.get("failed", 0) == len(FINDING_IDS) + 2
    verdicts = json.loads((pytester.path / "verdicts.json").read_text())["our-llava/our-pictures"]
    assert {*FINDING_IDS, "sees_more_late", "ends_high"} == set(verdicts)


def test_each_of_the_examples_takes_less_than_twenty_lines() -> None:
    examples = blocks("docs/extending.md", "python")
    assert len(examples) == 5
    assert all(len(example.splitlines()) < 20 for example in examples)


def test_the_notebook_example_runs(
    tiny_llava: LoadedModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phasebench.models.bundled.tiny import make_tiny_model

    folder = write_pictures(tmp_path / "pics", 3) / "val"
    for name, path in zip(("dog", "beach", "street"), sorted(folder.iterdir()), strict=True):
        path.rename(tmp_path / f"{name}.png")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "llava-ft").symlink_to(make_tiny_model("tiny-llava", cache))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("phasebench.api.default_prompt", lambda processor: TINY)  # it has no chat template
    names: dict[str, Any] = {}
    exec(blocks("docs/api.md", "python")[0], names)  # noqa: S102
    assert names["curves"].array("recall").shape == (3, 7)
    assert names["found"].detail


def test_the_examples_of_results_and_fixtures_run(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tables, fixtures = blocks("docs/api.md", "python")
    run("--snapshot-update")
    path = pytester.makepyfile(fixtures)
    run("--results", "results.json", str(path)).assert_outcomes(passed=1)
    monkeypatch.chdir(pytester.path)
    names: dict[str, Any] = {}
    exec(tables, names)  # noqa: S102
    assert names["by_depth"].columns.tolist() == ["tiny-llava"]
    assert names["drift"]["curve"].tolist() == ["inter"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_page_have_options_that_exist(page: Path, options: frozenset[str]) -> None:
    text = re.sub(r"\\\n", " ", page.read_text(encoding="utf-8"))
    for line in re.findall(r"pytest --phasebench[^\n`]*", text + "\n".join(steps(text))):
        assert options_in(line) <= options, line


def steps(text: str) -> list[str]:
    """The commands of a page's workflows, each folded into a line as in YAML."""
    workflows = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    jobs = [job for workflow in workflows for job in workflow["jobs"].values()]
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def options_in(line: str) -> set[str]:
    """The options of a command."""
    return set(re.findall(r"(?<=\s)(--?[a-z][\w-]*)", line.partition("#")[0]))


def test_a_workflow_is_read_to_its_last_line() -> None:
    (measuring_step,) = (
        line for line in steps((ROOT / "docs" / "ci.md").read_text(encoding="utf-8")) if "--against" in line
    )
    assert {"--strict-baselines", "--junitxml"} <= options_in(measuring_step)


@pytest.mark.parametrize("command", ["calibrate", "store"])
def test_the_other_commands_have_the_options_that_pages_name(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phasebench", command, "--help"], capture_output=True, text=True, check=True
    )
    lines = [
        line
        for page in PAGES
        for line in re.findall(rf"python -m phasebench {command}([^\n`]*)", page.read_text(encoding="utf-8"))
    ]
    assert lines
    for line in lines:
        assert options_in(line) <= options_in(done.stdout.replace("[", " ").replace(",", " ")), line


@pytest.fixture(scope="module")
def options() -> frozenset[str]:
    """The options of ``pytest --phasebench``."""
    command = [sys.executable, "-m", "pytest", "--phasebench", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    other_spellings = {"--junitxml"}  # help names one of two spellings
    return frozenset(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", done.stdout)) | other_spellings


def test_the_workflows_are_yaml_with_steps() -> None:
    workflows = [yaml.safe_load(text) for text in blocks("docs/ci.md", "yaml")]
    assert len(workflows) == 2
    for workflow in workflows:
        (job,) = workflow["jobs"].values()
        assert any("pytest --phasebench" in step.get("run", "") for step in job["steps"])
        assert any(step.get("uses", "").startswith("actions/upload-artifact@") for step in job["steps"])


def test_the_citation_names_paper_and_version() -> None:
    import phasebench

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == phasebench.__version__
    assert citation["references"][0]["title"].startswith("Phase Diagram of Vision Large Language Models")
