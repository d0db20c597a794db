"""Whole runs on the tiny models: what turns red, what stays green, and the output for people and machines."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from phasebench.catalog import CURVES
from phasebench.measurement.batches import ProgressUpdate
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.models.loading import LoadedModel
from phasebench.plugin.progress import Progress
from tests.support.runs import DRIFT, FINDING, FINDING_IDS, LATENCY, Run

pytestmark = pytest.mark.slow  # whole runs; test_plugin.py has quick ones


@pytest.fixture
def checkpoint(cache: Path, pytester: pytest.Pytester) -> Path:
    """A copy of the tiny checkpoint, to be changed."""
    return Path(shutil.copytree(make_tiny_model("tiny-llava", cache), pytester.path / "ckpt"))


def scale_tensor(folder: Path, name: str, factor: float) -> None:
    """Multiply a tensor of a checkpoint."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    (key,) = [key for key in tensors if key.endswith(name)]
    tensors[key] = tensors[key] * factor
    save_file(tensors, path, metadata={"format": "pt"})


def test_one_projector_tensor_changed_by_a_tenth_is_drift(run: Run, recorded: Path, checkpoint: Path) -> None:
    scale_tensor(checkpoint, "projector.linear_2.weight", 1.1)
    result = run("-m", "drift", model=f"tiny-llava={checkpoint}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["failed"] >= 5
    result.stdout.fnmatch_lines(
        [
            "drifted at * of 7 layers; worst at layer *",
            "*checkpoint differs: *",
            f"drift in * of {DRIFT} curves*",
        ]
    )


def test_images_processed_as_bgr_are_drift(run: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = LoadedModel.inputs

    def inputs_of_bgr(loaded: LoadedModel, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        return inputs(loaded, [Image.merge("RGB", image.split()[::-1]) for image in images])

    monkeypatch.setattr(LoadedModel, "inputs", inputs_of_bgr)
    result = run("-m", "drift")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["drifted at * of 7 layers; worst at layer *"])


def test_curves_that_depend_on_the_draw_are_reported_as_compared_with_other_images(
    run: Run, recorded: Path
) -> None:
    result = run("--images", "3", "-m", "drift")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*compared with other images or captions, within the sampling error: *lift*"]
    )


@pytest.mark.parametrize(
    "benign",
    [
        ("--batch-size", "3"),
        pytest.param(("--batch-size", "4"), marks=pytest.mark.slow),
        pytest.param(("--controls",), marks=pytest.mark.slow),
    ],
)
def test_what_changes_nothing_stays_green(run: Run, recorded: Path, benign: tuple[str, ...]) -> None:
    assert run(*benign).ret == 0


@pytest.mark.slow
def test_threads_change_nothing(run: Run, recorded: Path) -> None:
    torch.set_num_threads(2)
    try:
        assert run().ret == 0
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
def test_resaved_and_resharded_weights_change_nothing(run: Run, recorded: Path, checkpoint: Path) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="100KB")
    assert len(list(checkpoint.glob("*.safetensors"))) > 1
    assert run("-m", "drift or finding", model=f"tiny-llava={checkpoint}").ret == 0


def test_the_results_file_and_junit(run: Run, pytester: pytest.Pytester) -> None:
    outputs = ("--results", "out/results.json", "--junitxml", "junit.xml")
    run("--snapshot-update", "--controls", *outputs, "-W", "error")
    data = json.loads((pytester.path / "out" / "results.json").read_text())
    assert data["schema"] == 1
    (run_results,) = data["runs"]
    check_run_results(run_results)
    check_junit(ET.parse(pytester.path / "junit.xml"))  # noqa: S314 (written by this test)


def check_run_results(results: dict[str, Any]) -> None:
    """Check the results of tiny-llava on the four pictures, with all controls."""
    assert (results["model"], results["dataset"]) == ("tiny-llava", "pics")
    assert set(results["curves"]) == set(CURVES)
    for curve in results["curves"].values():
        assert curve["layer"] == list(range(7))
        assert set(curve) == {"layer", "mean", "se", "n"}
    assert set(results["findings"]) == set(FINDING_IDS)
    for verdict in results["findings"].values():
        assert verdict["verdict"] in {"holds", "does not hold", "undecided"}
        assert {"value", "low", "high", "detail", "controls"} <= set(verdict)
    assert set(results["drift"]) == set(CURVES)
    assert set(results["controls"]) == {"blank", "projector", "text"}
    assert results["timing"]["pass"] > 0
    assert [len(row) for row in results["heatmap"]] == [25] * 6
    assert [[len(row) for row in heatmap] for heatmap in results["heatmaps"].values()] == [[25] * 6] * 2
    assert results["selftest"]["bit_equal"] is True
    assert results["layout"] == {"length": 25, "visual": [[3, 19]], "text": 9}
    assert {"checkpoint", "data", "dtype", "device", "torch", "transformers", "seed"} <= set(
        results["provenance"]
    )


def test_the_same_seed_gives_the_same_numbers(run: Run, pytester: pytest.Pytester) -> None:
    curves = []
    for _ in range(2):
        run("--images", "3", "--seed", "5", "-m", "finding", "--results", "r.json")
        curves.append(json.loads((pytester.path / "r.json").read_text())["runs"][0]["curves"])
    assert curves[0] == curves[1]


def check_junit(tree: ET.ElementTree[ET.Element]) -> None:
    """Check the properties of a case."""
    case = next(case for case in tree.iter("testcase") if case.get("name", "").startswith("test_four_phases"))
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert properties["phasebench.run"] == "tiny-llava/pics"
    assert properties["phasebench.id"] == "four_phases"
    assert properties["phasebench.verdict"] in {"holds", "does not hold", "undecided"}


@pytest.mark.slow
def test_workers_give_the_results_of_one_process(run: Run, pytester: pytest.Pytester) -> None:
    results = []
    for extra in ((), ("-n", "2")):
        outcome = run(
            "--model",
            "tiny-instructblip",
            "-m",
            "finding or drift",
            "--snapshot-update",
            *extra,
            "--results",
            "r.json",
        )
        assert outcome.ret == 0
        results.append(json.loads((pytester.path / "r.json").read_text())["runs"])
        shutil.rmtree(pytester.path / "baselines")
    for from_one_process, from_workers in zip(*results, strict=True):
        assert from_one_process["curves"] == from_workers["curves"]
        assert from_one_process["findings"] == from_workers["findings"]


def test_two_names_of_one_checkpoint_are_timed_separately(
    run: Run, pytester: pytest.Pytester, cache: Path
) -> None:
    """Two measurements never take exactly the same time."""
    names = [word for name in "ab" for word in ("--model", f"{name}={cache / 'tiny-llava-1'}")]
    run(*names, "-m", "latency", "--fresh", "--results", "r.json", model=None)
    runs = json.loads((pytester.path / "r.json").read_text())["runs"]
    first, second = (run_results["timing"] for run_results in runs)
    assert first["total"] != second["total"]


MODEL_CASES = """
def test_before(): pass
def test_alone(loaded): pass
def test_both(loaded, measurement): pass
def test_again(loaded): pass
def test_after(): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("-n", "2")])
def test_cases_that_use_the_model_alone_load_it_once(
    run: Run, pytester: pytest.Pytester, extra: tuple[str, ...]
) -> None:
    path = pytester.makepyfile(MODEL_CASES)
    result = run(str(path), "--model", "tiny-instructblip", "--setup-show", "-v", *extra)
    result.assert_outcomes(passed=8)
    if not extra:
        names = [line.partition("::")[2].split()[0] for line in result.outlines if " PASSED" in line]
        assert (names[0], names[-1]) == ("test_before", "test_after")
        assert sum("SETUP    S loaded" in line for line in result.outlines) == 2
    workers = {
        (line[1:4], model)
        for line in result.outlines
        for model in ("tiny-llava", "tiny-instructblip")
        if line.startswith("[gw") and f"[{model}" in line
    }
    assert len(workers) == (2 if extra else 0)


@pytest.mark.slow
def test_each_model_goes_to_one_worker(run: Run) -> None:
    result = run("--model", "tiny-instructblip", "--snapshot-update", "-n", "2", "-v")
    workers: dict[str, set[str]] = {}
    for line in result.outlines:
        if line.startswith("[gw") and "[tiny-" in line:
            model = "tiny-llava" if "[tiny-llava" in line else "tiny-instructblip"
            workers.setdefault(model, set()).add(line[1:4])
    assert {len(names) for names in workers.values()} == {1}
    assert workers["tiny-llava"] != workers["tiny-instructblip"]


def test_the_terminal_shows_findings_drift_and_curves(run: Run, recorded: Path) -> None:
    result = run("--color=yes")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout.str()).splitlines()
    screen = lines[next(n for n, line in enumerate(lines) if "= phasebench tiny-llava/pics =" in line) :]
    pytest.LineMatcher(screen).fnmatch_lines(
        [
            "model     llava, checkpoint *",
            "prompt    '<s> user : <image> *",
            "baseline  tiny-llava, the same checkpoint and prompt, in*",
            "images    4, each 16 tokens at * of 25 positions",
            "inter_below_intra  *",
            "  margin to * at layer *: * [[]*, *[]] (must be above 0)",
            f"no drift in {DRIFT} curves; *",
            "timing: * ms an image, * x the plain forward pass*",
            "inter: similarity between image and text, by layer",
            "inter * [▁▂▃▄▅▆▇█]*",
        ]
    )
    end = next(n for n, line in enumerate(screen) if line.startswith("---"))
    assert all(len(line) <= 80 for line in screen[:end])
    assert f"\x1b[32mno drift in {DRIFT} curves" in result.stdout.str()


def test_quiet_prints_no_tables(run: Run, recorded: Path) -> None:
    assert "phasebench tiny-llava/pics" not in run("-q").stdout.str()


def test_verbose_draws_every_curve(run: Run, recorded: Path) -> None:
    text = run("-v", "-m", "finding").stdout.str()
    assert all(f"\n{name} " in text for name in CURVES)


def test_durations_are_handed_to_pytest_benchmark(run: Run, pytester: pytest.Pytester) -> None:
    run("-m", "latency", "--benchmark-json", "b.json", "--results", "r.json")
    data = json.loads((pytester.path / "b.json").read_text())
    benchmarks = {bench["fullname"]: bench for bench in data["benchmarks"]}
    assert set(benchmarks) == {"phasebench::pass[tiny-llava/pics]", "phasebench::plain[tiny-llava/pics]"}
    benchmark = benchmarks["phasebench::pass[tiny-llava/pics]"]
    timing = json.loads((pytester.path / "r.json").read_text())["runs"][0]["timing"]
    assert len(benchmark["stats"]["data"]) == 4
    assert benchmark["stats"]["mean"] == pytest.approx(timing["pass"], rel=1e-6)
    assert benchmark["extra_info"]["dtype"] == "float32"
    assert data["machine_info"]["phasebench"]["device"] == "cpu"


@pytest.mark.slow
def test_timing_is_compared_with_the_last_saved_benchmark(run: Run, pytester: pytest.Pytester) -> None:
    """The expected change is computed from the run's own times, however slow the machine is."""
    run("-m", "latency", "--benchmark-save", "first")
    (path,) = (pytester.path / ".benchmarks").glob("*/0001_first.json")
    data = json.loads(path.read_text())
    for bench in data["benchmarks"]:
        bench["stats"]["mean"] = 2.0
    path.write_text(json.dumps(data))
    result = run("-m", "latency", "--results", "r.json")
    timing = json.loads((pytester.path / "r.json").read_text())["runs"][0]["timing"]
    changes = [f"{route} {timing[route] / 2 - 1:+.1%} (2000 ms)" for route in ("pass", "plain")]
    line = f"against the stored benchmark: {', '.join(changes)}".replace("%", " %")
    result.stdout.fnmatch_lines([line])
    result = run("-m", "latency", "--images", "3", "--benchmark-compare", "0001")
    result.stdout.no_fnmatch_line("against the stored benchmark*")


@pytest.mark.slow
def test_benchmarks_can_be_compared(run: Run, pytester: pytest.Pytester) -> None:
    assert run("-m", "latency", "--benchmark-save", "first").ret == 0
    result = run("-m", "latency", "--benchmark-compare", "--benchmark-compare-fail", "mean:100000%")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pass[[]tiny-llava/pics[]] (0001_first) *"])


def test_the_model_is_loaded_and_each_dataset_measured_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phasebench.measurement import measure as measure_module
    from phasebench.models import loading

    calls: list[str] = []
    for module, name in ((loading, "load"), (measure_module, "measure")):
        original = getattr(module, name)

        def note_call(
            *args: object, _name: str = name, _original: object = original, **kwargs: object
        ) -> object:
            calls.append(_name)
            return _original(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setattr(module, name, note_call)
    run("--dataset", "scene-pairs", "--images", "4", "--snapshot-update").assert_outcomes(
        passed=2 * (DRIFT + FINDING + LATENCY)
    )
    assert calls == ["load", "measure", "measure"]


def test_after_ctrl_c_finished_measurements_are_reported(
    run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    def interrupt(progress: Progress, update: ProgressUpdate) -> None:
        if "scene-pairs" in progress._label and update.images == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupt)
    result = run(
        "--dataset",
        "scene-pairs",
        "--images",
        "4",
        "--snapshot-update",
        "--results",
        "r.json",
        no_reraise_ctrlc=True,
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*phasebench tiny-llava/pics*", "*KeyboardInterrupt*"])
    (run_results,) = json.loads((pytester.path / "r.json").read_text())["runs"]
    assert run_results["dataset"] == "pics"
    assert set(run_results["findings"]) == set(FINDING_IDS)
