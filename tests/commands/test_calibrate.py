"""python -m phasebench calibrate: what differs between runs that should agree, seen and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phasebench.__main__ import main
from phasebench.catalog import CURVES
from phasebench.commands import calibrate as command
from phasebench.commands.variations import (
    PLAIN,
    VARIATIONS,
    Padded,
    Values,
    Variation,
    measure_as,
    measure_elsewhere,
)
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.judge.drift.record import OF_OTHERS
from phasebench.judge.drift.tolerance import MARGIN, Spread, Tolerances, spread
from phasebench.models.loading import Loaded

HERE = [variation for variation in VARIATIONS if not variation.elsewhere]


@pytest.fixture(scope="module")
def known() -> dict[str, Values]:
    return {}


def test_a_spread_is_of_the_mean_the_images_and_one_image() -> None:
    before = np.array([[0.0, 1.0], [0.0, 1.0]])
    after = before + np.array([[0.0, 0.3], [0.0, -0.1]])
    found = spread(before, after, "inter")
    assert (found.mean, found.rms, found.most) == pytest.approx((0.1, 0.05**0.5, 0.3))


def test_unbounded_curves_are_relative_to_their_size() -> None:
    before = np.full((3, 2), 100.0)
    assert spread(before, before + 1, "total").mean == pytest.approx(0.01)
    assert spread(before, before + 1, "inter").mean == pytest.approx(1)


def test_layers_without_values_do_not_count() -> None:
    before = np.array([[np.nan, 1.0]])
    assert spread(before, before, "total") == Spread()
    nothing = np.full((2, 3), np.nan)
    assert spread(nothing, nothing, "recall") == Spread()


def test_the_widest_is_of_each() -> None:
    assert Spread(1, 2, 3).widest(Spread(3, 2, 1)) == Spread(3, 2, 3)


def test_what_is_allowed_is_a_multiple_of_what_was_seen() -> None:
    seen, level = Spread(1e-3, 2e-3, 5e-3), np.array([2.0])
    mean, rms = seen.allowed("inter", level, np.array([100]))
    assert mean == pytest.approx(1e-5 + MARGIN * (1e-3 + 5e-5))
    assert rms == pytest.approx(1e-5 + MARGIN * (2e-3 + 5e-4))
    assert seen.allowed("total", level, np.array([100]))[0] == pytest.approx(2 * mean)


def test_noise_of_a_logit_near_0_is_that_of_its_largest_layer() -> None:
    level, images = np.array([0.0, -1.0, 20.0, np.nan]), np.full(4, 10)
    mean, _ = Spread(1e-3).allowed("max_logit", level, images)
    assert mean[:3] == pytest.approx(20 * (1e-5 + MARGIN * 1e-3))
    assert np.isnan(mean[3])
    assert spread(level[None], level[None] + 0.2, "max_logit").mean == pytest.approx(0.01)


def test_one_near_tie_in_one_image_is_always_allowed() -> None:
    mean, rms = Spread().allowed("recall", np.array([0.3]), np.array([50]))
    assert mean == pytest.approx(0.5 / 50, abs=1e-4)
    assert rms == pytest.approx(0.5 / 50**0.5, abs=1e-4)


@pytest.mark.parametrize("variation", HERE, ids=lambda variation: variation.name)
def test_ways_that_should_agree_do(
    tiny_llava: Loaded, samples: list[Sample], variation: Variation, known: dict[str, Values]
) -> None:
    if "plain" not in known:
        known["plain"] = measure_as(tiny_llava, samples, PLAIN)
    threads, attention = torch.get_num_threads(), tiny_llava.model.get_decoder().config._attn_implementation
    values = measure_as(tiny_llava, samples, variation)
    assert set(values) == set(CURVES)
    for name, expected in known["plain"].items():
        if not (variation.backwards and name in OF_OTHERS):
            assert spread(expected, values[name], name).most < 1e-4, name
    assert torch.get_num_threads() == threads
    assert tiny_llava.model.get_decoder().config._attn_implementation == attention


def test_padding_is_put_where_it_is_said(tiny_llava: Loaded, samples: list[Sample]) -> None:
    images = [samples[0].open()]
    plain = tiny_llava.inputs(images)
    for padding, kept in ((-3, slice(3, None)), (5, slice(None, -5))):
        padded = Padded(**vars(tiny_llava), padding=padding).inputs(images)
        assert torch.equal(padded["input_ids"][:, kept], plain["input_ids"])
        assert padded["attention_mask"].sum() == plain["attention_mask"].sum()
        assert torch.equal(padded["pixel_values"], plain["pixel_values"])


@pytest.mark.slow
def test_the_command_writes_what_drift_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "tiny-llava", "--dataset", "scenes", "--images", "2", "--dtype", "bfloat16"]
    assert main(["calibrate", *arguments, "--baselines", str(tmp_path)]) == 0
    found = Tolerances.read(tmp_path / "tolerances.json")
    assert set(found.seen) == {"float32", "bfloat16", "bfloat16/float32"}
    assert all(set(by) == set(CURVES) for by in found.seen.values())
    assert (
        1e-9
        < found.seen["float32"]["inter"].mean
        < 1e-5
        < found.seen["bfloat16/float32"]["inter"].mean
        < 0.05
    )
    told = capsys.readouterr()
    assert "| `inter` |" in told.out
    assert "two processes: at most 0.0e+00" in told.err
    assert "tiny-llava on scenes, bfloat16 against float32: at most" in told.err


def seen_everywhere(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Every calibration from here on sees differences of this size."""
    spreads = {name: Spread(size, size, size) for name in CURVES}

    def place(
        _: object, __: str, ___: str, dtypes: list[str], **____: object
    ) -> dict[str, dict[str, Spread]]:
        return dict.fromkeys(dtypes, spreads)

    monkeypatch.setattr(command, "_spreads_on", place)


def test_what_another_machine_saw_is_kept_where_it_is_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tolerances.json"
    for size, option in ((2e-6, []), (1e-6, ["--widen"]), (4e-6, ["--widen"]), (1e-6, [])):
        seen_everywhere(monkeypatch, size)
        images = f"{size * 1e6:.0f}"
        assert main(["calibrate", *option, "--images", images, "--baselines", str(tmp_path)]) == 0
        found, about = Tolerances.read(path).seen["float16"]["total"], json.loads(path.read_text())["about"]
        if option:
            assert found.most == pytest.approx(max(2e-6, size), rel=0.01)
        else:
            assert found.most == pytest.approx(size, rel=0.01)
        if size == 4e-6:
            assert [one["images"] for one in (about, *about["widened"])] == [4, 1, 2]
            assert not any("widened" in one for one in about["widened"])
    assert "widened" not in about


def test_another_dtype_is_added_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_everywhere(monkeypatch, 1e-6)
    for dtype in ("bfloat16", "float16"):
        assert main(["calibrate", "--dtype", dtype, "--baselines", str(tmp_path / "new")]) == 0
    path = tmp_path / "new" / "tolerances.json"
    assert set(Tolerances.read(path).seen) == {"float32", "bfloat16", "float16"}
    assert json.loads(path.read_text())["about"]["dtypes"] == ["float32", "float16"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--model", "smol-lava"], "smol-lava"), (["--dataset", "secnes"], "secnes")],
)
def test_an_unknown_name_is_told(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *arguments, "--baselines", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_fails_is_named_with_what_it_said(processes: int) -> None:
    """A launcher's own words come last, and do not tell the reason."""
    with pytest.raises(InputError, match=r"(?s)as elsewhere: exit code [12], and said: .*no-such-model"):
        measure_elsewhere(
            ["--model", "no-such-model", "--dataset", "scenes", "--dtype", "float32"],
            Variation("as elsewhere", environment={"A": "b"}, processes=processes),
        )


def test_what_a_model_does_not_have_is_no_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without a lens says nothing of recall: what was seen of it stays."""
    nothing = {name: np.full((2, 3), np.nan if name == "recall" else 0.5) for name in CURVES}
    assert set(command._spreads(nothing, nothing)) == set(CURVES) - {"recall"}
    path = tmp_path / "tolerances.json"
    seen_everywhere(monkeypatch, 2e-6)
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 0
    some = {"inter": Spread(1e-6, 1e-6, 1e-6)}
    monkeypatch.setattr(command, "_spreads_on", lambda *given, **_: dict.fromkeys(given[3], some))
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 0
    seen = Tolerances.read(path).seen["float32"]
    assert (seen["inter"].most, seen["recall"].most) == pytest.approx((1e-6, 2e-6), rel=0.01)
    (earlier,) = json.loads(path.read_text())["about"]["widened"]
    assert earlier["images"] == 8


def test_what_stays_of_another_precision_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tolerances.json"
    for dtype, images in (("bfloat16", "2"), ("float16", "3"), ("float16", "4"), ("float16", "5")):
        seen_everywhere(monkeypatch, 1e-6)
        asked = ["calibrate", "--dtype", dtype, "--images", images, "--baselines", str(tmp_path)]
        assert main(asked) == 0
    found = json.loads(path.read_text())
    assert "bfloat16" in found["seen"]
    assert (found["about"]["images"], set(found["about"]["dtypes"])) == (5, {"float32", "float16"})
    assert [(one["images"], set(one["dtypes"])) for one in found["about"]["widened"]] == [
        (2, {"float32", "bfloat16"})
    ]
