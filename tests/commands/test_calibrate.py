"""python -m phasebench calibrate: the differences between runs that should agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from phasebench.__main__ import main
from phasebench.catalog import CURVES, OF_OTHER_CAPTIONS
from phasebench.commands import calibrate as command
from phasebench.commands import variations
from phasebench.commands.variations import (
    PLAIN,
    PROCESSORS,
    VARIATIONS,
    PaddedModel,
    Values,
    Variation,
    measure_as,
    measure_in_own_process,
)
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.judge.drift.tolerance import MARGIN, Spread, Spreads, Tolerances, spread_between
from phasebench.models.loading import LoadedModel

SAME_PROCESS_VARIATIONS = [variation for variation in VARIATIONS if not variation.needs_process]


@pytest.fixture(scope="module")
def values_by_name() -> dict[str, Values]:
    """Curves that several tests use, measured once."""
    return {}


def test_a_spread_is_of_the_mean_the_images_and_one_image() -> None:
    before = np.array([[0.0, 1.0], [0.0, 1.0]])
    after = before + np.array([[0.0, 0.3], [0.0, -0.1]])
    result = spread_between(before, after, "inter")
    assert (result.mean, result.rms, result.single_image) == pytest.approx((0.1, 0.05**0.5, 0.3))


def test_unbounded_curves_are_relative_to_their_size() -> None:
    before = np.full((3, 2), 100.0)
    assert spread_between(before, before + 1, "total").mean == pytest.approx(0.01)
    assert spread_between(before, before + 1, "inter").mean == pytest.approx(1)


def test_layers_without_values_do_not_count() -> None:
    before = np.array([[np.nan, 1.0]])
    assert spread_between(before, before, "total") == Spread()
    values = np.full((2, 3), np.nan)
    assert spread_between(values, values, "recall") == Spread()


def test_the_widest_is_of_each() -> None:
    assert Spread(1, 2, 3).widest(Spread(3, 2, 1)) == Spread(3, 2, 3)


def test_a_multiple_of_the_measured_spread_is_allowed() -> None:
    noise, level = Spread(1e-3, 2e-3, 5e-3), np.array([2.0])
    mean, rms = noise.allowed("inter", level, np.array([100]))
    assert mean == pytest.approx(1e-5 + MARGIN * (1e-3 + 5e-5))
    assert rms == pytest.approx(1e-5 + MARGIN * (2e-3 + 5e-4))
    assert noise.allowed("total", level, np.array([100]))[0] == pytest.approx(2 * mean)


def test_noise_of_a_logit_near_0_is_that_of_its_largest_layer() -> None:
    level, images = np.array([0.0, -1.0, 20.0, np.nan]), np.full(4, 10)
    mean, _ = Spread(1e-3).allowed("max_logit", level, images)
    assert mean[:3] == pytest.approx(20 * (1e-5 + MARGIN * 1e-3))
    assert np.isnan(mean[3])
    assert spread_between(level[None], level[None] + 0.2, "max_logit").mean == pytest.approx(0.01)


def test_one_near_tie_in_one_image_is_always_allowed() -> None:
    mean, rms = Spread().allowed("recall", np.array([0.3]), np.array([50]))
    assert mean == pytest.approx(0.5 / 50, abs=1e-4)
    assert rms == pytest.approx(0.5 / 50**0.5, abs=1e-4)


@pytest.mark.parametrize("variation", SAME_PROCESS_VARIATIONS, ids=lambda variation: variation.name)
def test_variations_agree(
    tiny_llava: LoadedModel, samples: list[Sample], variation: Variation, values_by_name: dict[str, Values]
) -> None:
    if "plain" not in values_by_name:
        values_by_name["plain"] = measure_as(tiny_llava, samples, PLAIN)
    threads, attention = torch.get_num_threads(), tiny_llava.model.get_decoder().config._attn_implementation
    values = measure_as(tiny_llava, samples, variation)
    assert set(values) == set(CURVES)
    for name, expected in values_by_name["plain"].items():
        if not (variation.backwards and name in OF_OTHER_CAPTIONS):
            assert spread_between(expected, values[name], name).single_image < 1e-4, name
    assert torch.get_num_threads() == threads
    assert tiny_llava.model.get_decoder().config._attn_implementation == attention


def test_padding_is_added_on_the_chosen_side(tiny_llava: LoadedModel, samples: list[Sample]) -> None:
    images = [samples[0].open()]
    plain = tiny_llava.inputs(images)
    for padding, prompt in ((-3, slice(3, None)), (5, slice(None, -5))):
        padded = PaddedModel(**vars(tiny_llava), padding=padding).inputs(images)
        assert torch.equal(padded["input_ids"][:, prompt], plain["input_ids"])
        assert padded["attention_mask"].sum() == plain["attention_mask"].sum()
        assert torch.equal(padded["pixel_values"], plain["pixel_values"])


def calibrated(folder: Path, dtype: str) -> Mapping[str, Mapping[str, Spread]]:
    """The spreads that the command writes for tiny-llava on two scenes."""
    arguments = ["--model", "tiny-llava", "--dataset", "scenes", "--images", "2", "--dtype", dtype]
    assert main(["calibrate", *arguments, "--baselines", str(folder)]) == 0
    return Tolerances.read(folder / "tolerances.json").spreads


def test_the_command_writes_what_drift_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variations, "VARIATIONS", SAME_PROCESS_VARIATIONS[4:6])
    monkeypatch.setattr(variations, "PROCESSORS", ())
    spreads = calibrated(tmp_path, "bfloat16")
    assert set(spreads) == {"float32", "bfloat16", "bfloat16/float32"}
    assert all(set(by_curve) == set(CURVES) for by_curve in spreads.values())
    assert 1e-9 < spreads["float32"]["inter"].mean < 1e-5 < spreads["bfloat16/float32"]["inter"].mean < 0.05
    output = capsys.readouterr()
    assert "| `inter` |" in output.out
    assert "tiny-llava on scenes, bfloat16 against float32: at most" in output.err


@pytest.mark.slow
def test_variations_in_processes_of_their_own_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one run give the numbers of one, to the last bit; other kernels give others."""
    two_processes = [variation for variation in VARIATIONS if variation.processes > 1]
    monkeypatch.setattr(variations, "VARIATIONS", two_processes)
    monkeypatch.setattr(variations, "PROCESSORS", PROCESSORS[:1])
    spreads = calibrated(tmp_path, "float32")
    assert set(spreads["float32"]) == set(CURVES)
    output = capsys.readouterr().err
    assert "two processes: at most 0.0e+00" in output
    assert f"{PROCESSORS[0].name}: at most" in output


def set_spreads(monkeypatch: pytest.MonkeyPatch, size: float, curves: Iterable[str] = CURVES) -> None:
    """Let every calibration measure differences of this size, in these curves."""
    spreads = {name: Spread(size, size, size) for name in curves}

    def spreads_on(_: object, __: str, ___: str, dtypes: list[str], **____: object) -> Spreads:
        return dict.fromkeys(dtypes, spreads)

    monkeypatch.setattr(command, "_spreads_on", spreads_on)


def test_larger_spreads_of_another_machine_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tolerances.json"
    for size, option in ((2e-6, []), (1e-6, ["--widen"]), (4e-6, ["--widen"]), (1e-6, [])):
        set_spreads(monkeypatch, size)
        images = f"{size * 1e6:.0f}"
        assert main(["calibrate", *option, "--images", images, "--baselines", str(tmp_path)]) == 0
        total = Tolerances.read(path).spreads["float16"]["total"]
        about = json.loads(path.read_text())["about"]
        if option:
            assert total.single_image == pytest.approx(max(2e-6, size), rel=0.01)
        else:
            assert total.single_image == pytest.approx(size, rel=0.01)
        if size == 4e-6:
            assert [conditions["images"] for conditions in (about, *about["widened"])] == [4, 1, 2]
            assert not any("widened" in conditions for conditions in about["widened"])
    assert "widened" not in about


def test_another_dtype_is_added_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_spreads(monkeypatch, 1e-6)
    for dtype in ("bfloat16", "float16"):
        assert main(["calibrate", "--dtype", dtype, "--baselines", str(tmp_path / "new")]) == 0
    path = tmp_path / "new" / "tolerances.json"
    assert set(Tolerances.read(path).spreads) == {"float32", "bfloat16", "float16"}
    assert json.loads(path.read_text())["about"]["dtypes"] == ["float32", "float16"]


def test_a_full_disk_keeps_the_earlier_tolerances_and_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_spreads(monkeypatch, 1e-6)
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 0
    before = (tmp_path / "tolerances.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    capsys.readouterr()
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "could not be written (No space left on device); its earlier content is unchanged" in line
    assert (tmp_path / "tolerances.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["--model", "smol-lava"], "smol-lava"), (["--dataset", "secnes"], "secnes")],
)
def test_an_unknown_name_is_reported(
    arguments: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *arguments, "--baselines", str(tmp_path)]) == 2
    assert name in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_that_fails_is_named_with_its_output() -> None:
    """A launcher prints its own lines last, which do not contain the reason."""
    pattern = r"(?s)in a process: exit code 1, with the output: .*no-such-model"
    with pytest.raises(InputError, match=pattern):
        measure_in_own_process(
            ["--model", "no-such-model", "--dataset", "scenes", "--dtype", "float32"],
            Variation("in a process", environment={"A": "b"}, processes=2),
        )


def test_curves_that_a_model_does_not_have_are_not_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without a lens has no recall: the spread in the file is kept."""
    values = {name: np.full((2, 3), np.nan if name == "recall" else 0.5) for name in CURVES}
    assert set(command._spreads_by_curve(values, values)) == set(CURVES) - {"recall"}
    path = tmp_path / "tolerances.json"
    set_spreads(monkeypatch, 2e-6)
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 0
    set_spreads(monkeypatch, 1e-6, ["inter"])
    assert main(["calibrate", "--baselines", str(tmp_path)]) == 0
    spreads = Tolerances.read(path).spreads["float32"]
    sizes = spreads["inter"].single_image, spreads["recall"].single_image
    assert sizes == pytest.approx((1e-6, 2e-6), rel=0.01)
    (earlier_conditions,) = json.loads(path.read_text())["about"]["widened"]
    assert earlier_conditions["images"] == 8


def test_the_conditions_of_remaining_spreads_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tolerances.json"
    for dtype, images in (("bfloat16", "2"), ("float16", "3"), ("float16", "4"), ("float16", "5")):
        set_spreads(monkeypatch, 1e-6)
        arguments = ["--dtype", dtype, "--images", images, "--baselines", str(tmp_path)]
        assert main(["calibrate", *arguments]) == 0
    data = json.loads(path.read_text())
    about = data["about"]
    assert "bfloat16" in data["seen"]
    assert (about["images"], set(about["dtypes"])) == (5, {"float32", "float16"})
    earlier_conditions = [(entry["images"], set(entry["dtypes"])) for entry in about["widened"]]
    assert earlier_conditions == [(2, {"float32", "bfloat16"})]
