"""The likely cause of a drift, from the curves that moved and the first layer that did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phasebench.catalog import CURVES
from phasebench.files import packaged_folder
from phasebench.judge.drift.cause import CAPTIONS, PICTURES, cause
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.tolerance import FILE
from tests.plugin.test_against import change, shift
from tests.support.runs import DRIFT, FINDING, LATENCY, Run

LAYERS = 7
PROMPT = {"prompt": "user: <image>", "layout": {"visual": [[2, 6]], "length": 9}}


def difference(curve: str, first: int | None, **changes: Any) -> Difference:
    """The difference of a curve that drifts from layer ``first`` on; None for no drift."""
    level, ones = np.zeros(LAYERS), np.ones(LAYERS)
    measured = level.copy()
    if first is not None:
        measured[first:] = 2.0
    values = {"recorded": level, "measured": measured, "allowed": ones, "half_width": level}
    return Difference(
        **{"curve": curve, **values, "rms_excess": level, "spread": ones, "shared": 4, "images": 4, **changes}
    )


def cause_from(first_layers: Mapping[str, int], after: Mapping[str, Any] = PROMPT) -> str:
    return cause([difference(name, first_layers.get(name)) for name in CURVES], PROMPT, after)


def cause_of_sizes(sizes: Mapping[str, Sequence[float]]) -> str:
    """The cause where curves differ by these multiples of the allowed difference, and others do not."""
    changes = {name: np.array(sizes.get(name, [0.0] * LAYERS)) for name in CURVES}
    return cause(
        [difference(name, None, measured=change) for name, change in changes.items()], PROMPT, PROMPT
    )


def test_without_drift_no_cause_is_named() -> None:
    assert cause_from({}) == ""
    assert cause_from({}, {**PROMPT, "prompt": "another"}) == ""


def test_image_tokens_that_differ_at_layer_0_come_from_before_the_language_model() -> None:
    sentence = cause_from({"intra_visual": 0, "inter": 0, "total": 1, "intra_text": 1, "recall": 0})
    assert sentence.startswith("before the language model: image")


def test_text_that_differs_at_layer_0_comes_from_the_tokenizer_or_its_embeddings() -> None:
    assert cause_from({"intra_text": 0, "inter": 0, "total": 1}).startswith("before the language model: text")


def test_both_modalities_at_layer_0_leave_the_cause_open() -> None:
    sentence = cause_from({"intra_text": 0, "intra_visual": 0, "inter": 0})
    assert sentence.startswith("before the language model: what enters")


def test_image_tokens_alone_at_layer_1_have_another_size() -> None:
    """Cosines do not depend on the size of what enters block 1; attention after a norm hardly does."""
    for rows in (1, 2):
        sentence = cause_from({"intra_visual": 1, "inter": 1, "intra_text": 2, "total": rows})
        assert "the size of what enters block 1" in sentence


def test_drift_from_layer_1_on_is_the_first_block_or_a_common_part() -> None:
    assert cause_from({"inter": 1, "intra_text": 1, "total": 1}).startswith(
        "block 1, or what all blocks share"
    )
    assert cause_from({"inter": 1, "intra_text": 2, "total": 1}).startswith("block 1, or")


@pytest.mark.parametrize(("rows", "part"), [(4, "its attention"), (5, "after its attention (norm or MLP)")])
def test_drift_from_a_later_layer_on_is_that_block(rows: int, part: str) -> None:
    sentence = cause_from({"inter": 4, "intra_text": 4, "total": rows, "recall": 5})
    assert sentence.startswith(f"block 4, {part}")


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (0.0, "block 4, its attention"),
        (0.02, "block 4, its attention"),
        (0.5, "at or before block 4 (the difference there is 5 x allowed)"),
    ],
)
def test_without_a_clear_step_the_block_may_be_an_earlier_one(before: float, sentence: str) -> None:
    sizes = {"intra_text": [0.0, 0, before / 2, before, 1, 2, 3], "total": [0.0, 0, 0, 0, 5, 9, 9]}
    assert cause_of_sizes(sizes).startswith(sentence)


def test_an_infinite_difference_is_a_clear_step() -> None:
    assert cause_of_sizes({"total": [0, 0, 0, 0.9, np.inf, 1, 1]}).startswith("block 4")


def test_a_small_difference_that_grows_from_the_first_layers_on_is_everywhere() -> None:
    sizes = {"intra_visual": [2.0, 3, 4, 5, 6, 7, 8], "total": [0.0, 9, 11, 30, 30, 30, 30]}
    assert cause_of_sizes(sizes) == (
        "everywhere: precision, or a change of all blocks (2 x allowed at layer 0, and growing); or only "
        "before the language model: image preprocessing, vision encoder or projector"
    )
    sizes = {"intra_text": [0.5, 3, 4, 5, 6, 7, 8], "total": [0.0, 2, 20, 30, 30, 30, 30]}
    assert cause_of_sizes(sizes) == (
        "everywhere: precision, or a change of all blocks (3 x allowed at layer 1, and growing); or only "
        "at or before block 1"
    )


def test_a_difference_that_the_blocks_only_pass_on_is_before_them() -> None:
    """Likewise a large one, however it grows."""
    image = "before the language model: image"
    assert cause_of_sizes({"intra_visual": [2.0, 3, 4, 5, 6, 7, 8]}).startswith(image)
    assert cause_of_sizes({"intra_visual": [100.0, 3e3, 4e3, 5e3, 6e3, 7e3, 8e3]}).startswith(image)


def test_the_lens_does_not_decide_how_large_a_difference_is() -> None:
    sizes = {"inter": [0.0, 0, 0, 5, 5, 5, 5], "max_logit": [9.0, 9, 9, 9, 9, 9, 9]}
    assert cause_of_sizes(sizes).startswith("block 3, after its attention")


def test_drift_of_the_lens_alone_is_norm_or_head() -> None:
    assert cause_from({"recall": 0}).startswith("final norm or output head")
    assert not cause_from({"recall": 0, "total": 3}).startswith("final norm")


def test_another_prompt_or_layout_is_named_first() -> None:
    longer = {**PROMPT, "layout": {"visual": [[2, 7]], "length": 10}}
    first_layers = {"inter": 0, "intra_visual": 0}
    assert cause_from(first_layers, longer) == (
        "the prompt's layout changed, not its text (processor or tokenizer): image tokens 4 -> 5, "
        "prompt length 9 -> 10"
    )
    sentence = cause_from(first_layers, {**longer, "prompt": "USER: <image>"})
    assert sentence.startswith(
        "the prompt's text changed (chat template, or another prompt was given), and with it the prompt"
    )
    assert cause_from(first_layers, {**PROMPT, "prompt": "User: <image>"}).endswith(
        "another prompt was given)"
    )


def test_several_layouts_are_not_compared() -> None:
    several = {**PROMPT, "layout": [PROMPT["layout"], {"visual": [[2, 8]], "length": 11}]}
    assert cause_from({"inter": 2, "total": 2}, several).startswith("block 2")


def test_another_number_of_blocks_is_named_first() -> None:
    shorter = difference("inter", None, layer_counts=(6, 5), shared=0)
    assert cause([shorter], PROMPT, {}) == "blocks are missing or added: 6 -> 5"


def test_intervals_name_no_cause() -> None:
    """With an interval, or on other images, the first drifted layer is not where the difference begins."""
    with_interval = difference("inter", 3, half_width=np.full(LAYERS, 0.5))
    with_other_images = difference("inter", 3, shared=0)
    assert cause([with_interval], PROMPT, PROMPT) == cause([with_other_images], PROMPT, PROMPT) == ""


@pytest.fixture
def drifted_baselines(recorded: Path) -> Path:
    """Baselines of tiny-llava in which two curves are changed at layer 0."""
    for curve in ("inter", "intra_visual"):
        change(recorded / f"{curve}.json", shift(0.3, layer=0))
    return recorded


def test_a_run_names_the_cause_in_the_message_the_summary_and_the_results(
    run: Run, drifted_baselines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if only one of the curves is selected."""
    summary, results = tmp_path / "summary.md", tmp_path / "results.json"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("-m", "drift", "-k", "test_drift and intra_visual and not nosink", "--results", str(results))
    result.assert_outcomes(failed=1, deselected=DRIFT + FINDING + LATENCY - 1)
    sentence = "before the language model: image preprocessing, vision encoder or projector"
    assert f"likely cause: {sentence}" in result.stdout.lines
    assert result.stdout.str().count("likely cause: before the language model") == 2
    assert f"Likely cause: {sentence}" in summary.read_text()
    (run_results,) = json.loads(results.read_text())["runs"]
    assert run_results["drift"]["intra_visual"]["cause"] == sentence


def test_a_curve_without_drift_has_no_cause(run: Run, drifted_baselines: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert run("-m", "drift", "-k", "total", "--results", str(results)).ret == 0
    (run_results,) = json.loads(results.read_text())["runs"]
    assert run_results["drift"]["total"]["cause"] == ""


def test_against_another_model_no_cause_is_named(run: Run, drifted_baselines: Path) -> None:
    drifted_baselines.parent.rename(drifted_baselines.parent.with_name("teacher"))
    result = run("--against", "teacher", "--effect", "0", "-m", "drift")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*likely cause*")


def test_curves_that_cannot_be_compared_do_not_hide_the_cause(
    run: Run, drifted_baselines: Path, tmp_path: Path
) -> None:
    """An unreadable file, and a curve without a tolerance."""
    tolerances = json.loads((packaged_folder("baselines") / FILE).read_text())
    for by_curve in tolerances["seen"].values():
        del by_curve["max_logit"]
    (drifted_baselines.parents[1] / FILE).write_text(json.dumps(tolerances))
    (drifted_baselines / "total.json").write_text("no JSON")
    result = run("-m", "drift")
    result.assert_outcomes(failed=4, passed=DRIFT - 4, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(["*no tolerance of max_logit*"])
    result.stdout.fnmatch_lines(["likely cause: before the language model: image*"])


@pytest.mark.parametrize(("curve", "sentence"), [("inter", PICTURES), ("recall", CAPTIONS)])
def test_replaced_pictures_or_captions_are_the_cause(curve: str, sentence: str) -> None:
    others = [difference(name, None, replaced=4) for name in CURVES if name != curve]
    assert cause([difference(curve, 2, replaced=4), *others], PROMPT, PROMPT) == sentence
