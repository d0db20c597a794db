"""Bad input: a clear message names the option or file before any long work; exit codes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from phasebench.measurement import batches
from phasebench.measurement.passes import probed_pass
from phasebench.models.bundled.tiny import make_tiny_model
from tests.support.runs import DRIFT, FINDING, LATENCY, Run

pytestmark = pytest.mark.slow  # whole runs; test_plugin.py has quick ones

USAGE, FAILED, NOTHING = (
    pytest.ExitCode.USAGE_ERROR,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


@pytest.fixture
def changed_verdict(recorded: Path) -> Path:
    """A recorded verdict that differs from the measured one, which is undecided."""
    path = recorded / "verdicts" / "four_phases.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": "another"}))
    return path


@pytest.mark.slow
def test_a_verdict_that_fewer_images_leave_undecided_is_skipped(run: Run, changed_verdict: Path) -> None:
    """Nothing shows a change."""
    before = changed_verdict.read_bytes()
    for update in ((), ("--snapshot-update",)):
        result = run("-m", "finding", "-k", "not recall_peak", "--images", "3", "-rs", *update)
        assert result.ret == 0
        result.stdout.fnmatch_lines(
            [
                "four_phases *undecided *another",
                "*undecided, recorded on 4 images, measured on 3",
            ]
        )
        assert changed_verdict.read_bytes() == before
    assert run("-k", "four_phases", "--images", "3").ret == NOTHING
    assert run("-k", "four_phases", "--images", "3", "--strict-baselines").ret == FAILED


def test_a_verdict_that_all_images_leave_undecided_is_red(run: Run, changed_verdict: Path) -> None:
    assert changed_verdict.is_file()
    result = run("-m", "finding")
    result.assert_outcomes(passed=FINDING - 1, failed=1, deselected=DRIFT + LATENCY)
    result.stdout.fnmatch_lines(["recorded another, now undecided: *"])
    result.stdout.no_fnmatch_line("*recorded on 4 images*")


def test_captions_that_are_not_json(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "pics" / "annotations" / "captions_val.json").write_text("no json")
    result = run()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--dataset pics: *captions_val.json is not JSON*"])


def test_captions_that_are_not_json_under_workers(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "pics" / "annotations" / "captions_val.json").write_text("no json")
    result = run("-n", "2")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--dataset pics: *captions_val.json is not JSON*"])


def test_results_that_cannot_be_written(run: Run) -> None:
    result = run("--results", "pics")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--results pics: is a folder*"])


def test_results_that_cannot_be_written_at_the_end_lose_no_table(run: Run) -> None:
    """Whether a folder takes a file is certain only when it is written; then the run is not green."""
    result = run("--snapshot-update", "-m", "finding", "--results", "/proc/results.json")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["*phasebench tiny-llava/pics*", "*--results /proc/results.json could not be written: *"]
    )


def test_timings_alone_do_not_make_missing_baselines_green(run: Run) -> None:
    assert run("-m", "drift or latency").ret == NOTHING
    assert run("-m", "latency").ret == 0


def test_a_skip_beside_timings_leaves_them_green(run: Run, pytester: pytest.Pytester) -> None:
    """The first case of a model and dataset carries the measurement, whatever its outcome."""
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            first = next(item for item in items if item.get_closest_marker("latency"))
            first.obj = lambda **_: pytest.skip("not this one")
        """
    )
    result = run("-m", "latency")
    result.assert_outcomes(passed=LATENCY - 1, skipped=1, deselected=DRIFT + FINDING)
    assert result.ret == 0


def test_one_image_decides_nothing(run: Run, pytester: pytest.Pytester) -> None:
    run("--images", "1", "-m", "finding", "--results", "r.json")
    (run_results,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    verdicts = {name: verdict["verdict"] for name, verdict in run_results["findings"].items()}
    assert set(verdicts.values()) == {"undecided"}


REASONS = {"remove": "missing", "garble": "no image", "cut": "truncated", "say nothing": "without captions"}


def spoil_third_image(folder: Path, how: str) -> None:
    """Make the third of the pictures unusable."""
    path, captions = folder / "val" / "2.png", folder / "annotations" / "captions_val.json"
    if how == "remove":
        path.unlink()
    elif how == "say nothing":
        data = json.loads(captions.read_text())
        data["annotations"] = [row for row in data["annotations"] if row["image_id"] != 2]
        captions.write_text(json.dumps(data))
    else:
        path.write_bytes(b"no image" if how == "garble" else path.read_bytes()[:300])


@pytest.mark.parametrize("how", REASONS)
def test_an_image_that_cannot_be_measured_is_skipped_and_reported(
    run: Run, pytester: pytest.Pytester, how: str
) -> None:
    spoil_third_image(pytester.path / "pics", how)
    result = run("-k", "four_phases", "--results", "r.json", "--snapshot-update")
    assert result.ret == 0
    line = f"phasebench: pics: 1 image skipped, 3 measured: 1 {REASONS[how]} (*pics/val/2.png)"
    result.stdout.fnmatch_lines([line])
    (run_results,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    assert run_results["images"] == ["0", "1", "3"]
    assert run_results["provenance"]["images"] == 3
    (skip,) = run_results["skipped"]
    assert (skip["id"], skip["reason"]) == ("2", REASONS[how])


@pytest.mark.parametrize("how", REASONS)
def test_strict_data_turns_a_skip_into_an_error(run: Run, pytester: pytest.Pytester, how: str) -> None:
    spoil_third_image(pytester.path / "pics", how)
    result = run("--strict-data")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["*--dataset pics: 1 image skipped; the first: *pics/val/2.png*; without --strict-data*"]
    )


def test_strict_data_accepts_good_data(run: Run) -> None:
    result = run("--strict-data", "-k", "four_phases", "--snapshot-update")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*skipped, *")


@pytest.mark.slow
def test_workers_skip_what_one_process_skips(run: Run, pytester: pytest.Pytester) -> None:
    spoil_third_image(pytester.path / "pics", "cut")
    result = run("-n", "2", "-k", "four_phases", "--results", "r.json", "--snapshot-update")
    result.stdout.fnmatch_lines(["phasebench: pics: 1 image skipped, 3 measured: 1 truncated (*2.png)"])
    assert json.loads((pytester.path / "r.json").read_text())["runs"][0]["images"] == ["0", "1", "3"]


@pytest.mark.parametrize("dataset", ["coco", "winoground"])
def test_a_data_dir_without_the_dataset(run: Run, dataset: str) -> None:
    result = run("--data-dir", "pics", dataset=dataset)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*--dataset {dataset}: neither pics/{dataset} nor pics has*--data-dir"])


def test_the_hub_without_its_library(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = run(dataset="winoground")
    assert result.ret == USAGE
    line = "*--dataset winoground: *needs the library `datasets`: pip install*--data-dir*"
    result.stderr.fnmatch_lines([line])


def test_a_dataset_without_a_usable_image(run: Run, pytester: pytest.Pytester) -> None:
    for path in (pytester.path / "pics" / "val").iterdir():
        path.write_bytes(b"")
    result = run()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["*--dataset pics: no image is left to measure, 4 images skipped; the first: *0.png*"]
    )


def test_a_prompt_without_an_image_is_reported_once_without_its_cause(run: Run) -> None:
    result = run("--prompt", "describe the picture", "-k", "four_phases")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["*the processor refuses the prompt 'describe the picture'*see --prompt*"])
    output = result.stdout.str()
    assert output.count("the processor refuses the prompt") == 2  # in full, and in the list at the end
    assert "another exception" not in output


def test_a_baselines_folder_that_does_not_exist(run: Run) -> None:
    result = run("--phasebench-baselines", "nowhere")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--phasebench-baselines nowhere: no such folder*"])


def test_a_baseline_that_is_not_json(run: Run, recorded: Path) -> None:
    (recorded / "inter.json").write_text("<<<<<<< ours")
    result = run("-m", "drift")
    result.assert_outcomes(passed=DRIFT - 1, failed=1, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(["baseline *inter.json is not JSON*--snapshot-update*"])
    run("-m", "drift", "--snapshot-update").assert_outcomes(passed=DRIFT, deselected=FINDING + LATENCY)


def test_a_baseline_with_another_number_of_layers(run: Run, recorded: Path) -> None:
    path = recorded / "inter.json"
    record = json.loads(path.read_text())
    images = {key: values[:-2] for key, values in record["images"].items()}
    path.write_text(json.dumps({**record, "layers": record["layers"][:-2], "images": images}))
    result = run("-m", "drift", "-k", "inter and drift and not nosink")
    result.stdout.fnmatch_lines(["recorded with 4 layers, measured with 6*"])
    assert result.ret == FAILED


def test_a_dtype_that_was_not_calibrated(run: Run, recorded: Path) -> None:
    path = recorded / "inter.json"
    path.write_text(path.read_text().replace('"dtype": "float32"', '"dtype": "float8"'))
    result = run("-m", "drift")
    result.assert_outcomes(passed=DRIFT - 1, failed=1, deselected=FINDING + LATENCY)
    result.stdout.fnmatch_lines(
        ["no tolerance of inter for float32/float8 in tolerances.json; *phasebench calibrate*"]
    )


def test_without_a_recorded_verdict_the_papers_claim_must_hold(run: Run) -> None:
    result = run("-m", "finding")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["does not hold: ratio at layer *: * (must be above 1)"])
    result.assert_outcomes(failed=FINDING, deselected=DRIFT + LATENCY)


def test_without_baselines_nothing_is_compared(run: Run) -> None:
    result = run("-m", "drift")
    assert result.ret == NOTHING
    result.assert_outcomes(skipped=DRIFT, deselected=FINDING + LATENCY)
    line = (
        f"phasebench: cases not compared: {DRIFT} of tiny-llava/pics: nothing is recorded yet; "
        "record it with --snapshot-update"
    )
    assert result.outlines[-2] == line


@pytest.mark.slow
def test_under_strict_baselines_a_missing_baseline_fails(run: Run, pytester: pytest.Pytester) -> None:
    result = run("-m", "drift or finding", "--strict-baselines")
    assert result.ret == FAILED
    result.assert_outcomes(errors=1, skipped=DRIFT + FINDING - 1, deselected=LATENCY)
    line = "nothing is recorded for tiny-llava/pics (no *baselines/tiny-llava/pics); record it with *"
    result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*loading*")
    run("--snapshot-update", "--strict-baselines")
    assert run("-m", "drift or finding", "--strict-baselines").ret == 0
    for name in ("verdicts/four_phases", "inter"):
        (pytester.path / "baselines" / "tiny-llava" / "pics" / f"{name}.json").unlink()
    result = run("-m", "drift or finding", "--strict-baselines", "-rs")
    result.assert_outcomes(passed=DRIFT + FINDING - 2, failed=1, skipped=1, deselected=LATENCY)
    result.stdout.fnmatch_lines(["no baseline of inter, verdicts/four_phases; record it with*"])
    result.stdout.fnmatch_lines(["SKIPPED*: no baseline of verdicts/four_phases, as another case reports"])


def test_an_empty_selection_is_never_green(run: Run) -> None:
    assert run("-k", "no_such_case").ret == NOTHING


def test_a_dataset_of_too_few_images(run: Run) -> None:
    result = run("--images", "1", "--dataset", "scene-pairs", "-k", "four_phases", dataset=None)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        ["*--dataset scene-pairs: no images drawn: an item has more than 1; raise --images*"]
    )


def test_a_stale_baseline_is_reported_and_kept(run: Run, recorded: Path) -> None:
    path = recorded / "old_curve.json"
    path.write_text("{}")
    result = run()
    result.stdout.fnmatch_lines([f"phasebench: no case asks for the baseline {path}*"])
    assert result.ret == 0
    assert path.exists()


def test_a_checkpoint_that_cannot_be_loaded(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in ("config.json", "processor_config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    result = run("-rfEs", model=str(folder))
    assert result.ret == FAILED
    others = DRIFT + FINDING + LATENCY - 1
    result.assert_outcomes(errors=1, skipped=others)
    result.stdout.fnmatch_lines(["--model broken: cannot load *"])
    result.stdout.fnmatch_lines([f"SKIPPED [[]{others}[]] *: because broken could not be loaded"])
    assert result.outlines[-2] == f"{others} other cases skipped because broken could not be loaded"


def test_an_error_while_loading_is_no_reason_to_load_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from phasebench.models import loading

    calls: list[str] = []

    def fail(spec: Any, *_: object) -> None:
        calls.append(spec.name)
        raise RuntimeError("a bug")

    monkeypatch.setattr(loading, "load", fail)
    result = run("-m", "finding")
    result.assert_outcomes(errors=1, skipped=FINDING - 1, deselected=DRIFT + LATENCY)
    assert calls == ["tiny-llava"]


def test_an_incomplete_checkpoint_stops_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    result = run(model=str(folder))
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--model broken: *broken lacks its processor's files*"])


def test_an_unknown_model_stops_before_workers_start(run: Run) -> None:
    result = run("-n", "2", model="smol-lava")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*--model smol-lava: unknown model*"])


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("layers.2.mlp.down_proj.weight", "layer 3 (model.language_model.layers.2)"),
        ("multi_modal_projector.linear_2.bias", "layer 0 (what enters the first block)"),
    ],
)
def test_a_nan_is_reported_with_its_module(
    run: Run, recorded: Path, pytester: pytest.Pytester, cache: Path, tensor: str, layer: str
) -> None:
    before = {path: path.read_bytes() for path in sorted(recorded.rglob("*.json"))}
    checkpoint = Path(shutil.copytree(make_tiny_model("tiny-llava", cache), pytester.path / "spoilt"))
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith(tensor))
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    result = run("--snapshot-update", model=f"tiny-llava={checkpoint}")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines([f"*llava, first images: states are not finite from {layer} on; *--dtype*"])
    assert {path: path.read_bytes() for path in before} == before


def test_an_image_that_overflows_is_reported_once_and_nothing_is_recorded(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def overflowing(*args: Any, **kwargs: Any) -> Any:
        rows = probed_pass(*args, **kwargs)
        calls.append(1)
        if len(calls) == 3:
            rows[0].curves["inter"][2:] = float("nan")
        return rows

    monkeypatch.setattr(batches, "probed_pass", overflowing)
    result = run("--snapshot-update", "-m", "drift or finding", "--results", "results.json")
    assert result.ret == FAILED
    result.assert_outcomes(failed=1, skipped=DRIFT + FINDING - 1, deselected=LATENCY)
    result.stdout.fnmatch_lines(
        ["1 of 4 images are broken; the first, 2: states are not finite from layer 2 (*"]
    )
    assert not (pytester.path / "baselines").exists()
    (run_results,) = json.loads((pytester.path / "results.json").read_text())["runs"]
    assert list(run_results["broken"]) == ["2"]
