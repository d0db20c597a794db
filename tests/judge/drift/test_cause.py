"""The likely cause of a drift: read off which curves moved, and from which layer on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.files import packaged
from phasebench.judge.drift.cause import cause
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.tolerance import FILE
from tests.conftest import DRIFT, FINDING, LATENCY, Run
from tests.plugin.test_against import change, moved

LAYERS = 7
PROMPT = {"prompt": "user: <image>", "layout": {"visual": [[2, 6]], "length": 9}}


def difference(curve: str, first: int | None, **changes: Any) -> Difference:
    """A curve past what is allowed from layer ``first`` on."""
    level, ones = np.zeros(LAYERS), np.ones(LAYERS)
    moved = level.copy()
    if first is not None:
        moved[first:] = 2.0
    values = {"recorded": level, "measured": moved, "allowed": ones, "half_width": level}
    return Difference(
        **{"curve": curve, **values, "rms_excess": level, "spread": ones, "shared": 4, "images": 4, **changes}
    )


def told(moved: Mapping[str, int], after: Mapping[str, Any] = PROMPT) -> str:
    return cause([difference(name, moved.get(name)) for name in CURVES], PROMPT, after)


def test_without_drift_no_cause_is_named() -> None:
    assert told({}) == ""
    assert told({}, {**PROMPT, "prompt": "another"}) == ""


def test_image_tokens_that_differ_at_layer_0_come_from_before_the_language_model() -> None:
    said = told({"intra_visual": 0, "inter": 0, "total": 1, "intra_text": 1, "recall": 0})
    assert said.startswith("before the language model: image")


def test_text_that_differs_at_layer_0_comes_from_the_tokenizer_or_its_embeddings() -> None:
    assert told({"intra_text": 0, "inter": 0, "total": 1}).startswith("before the language model: text")


def test_both_at_layer_0_leave_it_open() -> None:
    said = told({"intra_text": 0, "intra_visual": 0, "inter": 0})
    assert said.startswith("before the language model: what enters")


def test_only_image_tokens_at_layer_1_are_of_another_size() -> None:
    """Cosines do not see the size of what enters block 1, attention behind a norm hardly does."""
    for rows in (1, 2):
        said = told({"intra_visual": 1, "inter": 1, "intra_text": 2, "total": rows})
        assert "the size of what enters block 1" in said


def test_from_layer_1_on_it_is_the_first_block_or_what_all_share() -> None:
    assert told({"inter": 1, "intra_text": 1, "total": 1}).startswith("block 1, or what all blocks share")
    assert told({"inter": 1, "intra_text": 2, "total": 1}).startswith("block 1, or")


@pytest.mark.parametrize(("rows", "part"), [(4, "its attention"), (5, "after its attention (norm or MLP)")])
def test_from_a_layer_on_it_is_that_block(rows: int, part: str) -> None:
    said = told({"inter": 4, "intra_text": 4, "total": rows, "recall": 5})
    assert said.startswith(f"block 4, {part}")


def test_the_lens_alone_is_norm_or_head() -> None:
    assert told({"recall": 0}).startswith("final norm or output head")
    assert not told({"recall": 0, "total": 3}).startswith("final norm")


def test_another_prompt_and_another_layout_come_before_all_else() -> None:
    longer = {**PROMPT, "layout": {"visual": [[2, 7]], "length": 10}}
    moved = {"inter": 0, "intra_visual": 0}
    assert told(moved, longer) == (
        "the prompt's layout changed, not its text (processor or tokenizer): image tokens 4 -> 5, "
        "prompt length 9 -> 10"
    )
    said = told(moved, {**longer, "prompt": "USER: <image>"})
    assert said.startswith(
        "the prompt's text changed (chat template, or --prompt), and with it the prompt's layout:"
    )
    assert told(moved, {**PROMPT, "prompt": "User: <image>"}).endswith("--prompt)")


def test_several_layouts_are_not_told_apart() -> None:
    several = {**PROMPT, "layout": [PROMPT["layout"], {"visual": [[2, 8]], "length": 11}]}
    assert told({"inter": 2, "total": 2}, several).startswith("block 2")


def test_another_number_of_blocks_is_said_first() -> None:
    shorter = difference("inter", None, layer_counts=(6, 5), shared=0)
    assert cause([shorter], PROMPT, {}) == "blocks are missing or added: 6 -> 5"


def test_intervals_name_no_cause() -> None:
    """With one, or on other images, the first layer past it is not where the difference begins."""
    wide = difference("inter", 3, half_width=np.full(LAYERS, 0.5))
    others = difference("inter", 3, shared=0)
    assert cause([wide], PROMPT, PROMPT) == cause([others], PROMPT, PROMPT) == ""


@pytest.fixture
def recorded(run: Run, pytester: pytest.Pytester) -> Path:
    """Baselines of tiny-llava, of which two curves are said to have been others at layer 0."""
    assert run("--snapshot-update").ret == 0
    folder = pytester.path / "baselines" / "tiny-llava" / "pics"
    for curve in ("inter", "intra_visual"):
        change(folder / f"{curve}.json", moved(0.3, layer=0))
    return folder


def test_a_run_names_the_cause_in_the_message_the_summary_and_the_results(
    run: Run, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only one of the curves is asked for."""
    summary, results = tmp_path / "summary.md", tmp_path / "results.json"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("-m", "drift", "-k", "test_drift and intra_visual and not nosink", "--results", str(results))
    result.assert_outcomes(failed=1, deselected=DRIFT + FINDING + LATENCY - 1)
    said = "before the language model: image preprocessing, vision encoder or projector"
    assert f"likely cause: {said}" in result.stdout.lines
    assert result.stdout.str().count("likely cause: before the language model") == 2
    assert f"Likely cause: {said}" in summary.read_text()
    (one,) = json.loads(results.read_text())["runs"]
    assert one["drift"]["intra_visual"]["cause"] == said


def test_a_curve_without_drift_has_no_cause(run: Run, recorded: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert run("-m", "drift", "-k", "total", "--results", str(results)).ret == 0
    (one,) = json.loads(results.read_text())["runs"]
    assert one["drift"]["total"]["cause"] == ""


def test_against_another_model_no_cause_is_named(run: Run, recorded: Path) -> None:
    recorded.parent.rename(recorded.parent.with_name("teacher"))
    result = run("--against", "teacher", "--effect", "0", "-m", "drift")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*likely cause*")


def test_what_cannot_be_compared_hides_no_cause(run: Run, recorded: Path, tmp_path: Path) -> None:
    """A file that is not read, and a curve that a calibration did not know yet."""
    known = json.loads((packaged("baselines") / FILE).read_text())
    for by_curve in known["seen"].values():
        del by_curve["max_logit"]
    (recorded.parents[1] / FILE).write_text(json.dumps(known))
    (recorded / "total.json").write_text("no JSON")
    result = run("-m", "drift")
    result.assert_outcomes(failed=4, passed=DRIFT - 4, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(["*no tolerance of max_logit*"])
    result.stdout.fnmatch_lines(["likely cause: before the language model: image*"])
