"""What the tests share: tiny models, small data sets on disk, and runs of the plugin inside pytest.

``pytest --phasebench`` reads this file too when it is called in a checkout, so that nothing heavy is imported
and nothing is set before a test asks for it.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from phasebench.catalog import CURVES, FINDINGS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from phasebench.datasets.sample import Sample
    from phasebench.measurement.passes import Row
    from phasebench.models.loading import Loaded

DRIFT, FINDING, LATENCY = len(CURVES), len(FINDINGS), 2
"""Cases of one model on one dataset, by marker."""
LATER = ("phasebench.cases", "phasebench.baselines")


@pytest.fixture(scope="session", autouse=True)
def _settled() -> None:
    """Imports and threads, once for all tests.

    A pytest run inside a test forgets what it was the first to import; what is imported now stays one.
    What was made at import stays for good: each run inside collects garbage among the rest only. Tiny
    products cost more on several threads, above all on a busy machine.
    """
    import torch

    import phasebench

    for module in pkgutil.walk_packages(phasebench.__path__, "phasebench."):
        if not module.name.startswith(LATER):
            importlib.import_module(module.name)
    for name in ("blip_2", "llava_next", "opt", "t5"):  # of the tiny-random models
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):  # inside there is no CI
        os.environ.pop(name, None)
    gc.collect()
    gc.freeze()
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run inside a test is no worker of pytest-xdist, wherever the test itself runs."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("PHASEBENCH_CACHE")
    os.environ["PHASEBENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PHASEBENCH_CACHE"]
    else:
        os.environ["PHASEBENCH_CACHE"] = before


def load_tiny(name: str, cache: Path) -> Loaded:
    from phasebench.models.loading import load
    from phasebench.models.named_models import bundled_models

    spec = next(spec for spec in bundled_models() if spec.name == name)
    return load(spec, cache, device="cpu")


@pytest.fixture(scope="session")
def tiny_llava(cache: Path) -> Loaded:
    return load_tiny("tiny-llava", cache)


@pytest.fixture(scope="session")
def tiny_instructblip(cache: Path) -> Loaded:
    return load_tiny("tiny-instructblip", cache)


@pytest.fixture(scope="session", params=["tiny-llava", "tiny-instructblip"])
def tiny(request: pytest.FixtureRequest, cache: Path) -> Loaded:
    return load_tiny(request.param, cache)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    from phasebench.datasets.scenes import render, scenes

    return [render(scene) for scene in islice(scenes("held_out", 7), 6)]


def write_pictures(folder: Path, count: int, split: str = "val", seed: int = 5) -> Path:
    """A data set of ``count`` scenes in COCO's layout."""
    from phasebench.datasets.coco import write_coco
    from phasebench.datasets.scenes import SIZE, captions, render, scenes

    (folder / split).mkdir(parents=True)
    drawn = list(islice(scenes("held_out", seed), count))
    names = [f"{index}.png" for index in range(count)]
    for name, scene in zip(names, drawn, strict=True):
        render(scene).save(folder / split / name)
    write_coco(folder, split, [(name, SIZE, SIZE) for name in names], [captions(scene) for scene in drawn])
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    from phasebench.datasets.coco import read_coco

    return read_coco(write_pictures(tmp_path / "pics", 5))


@pytest.fixture
def row(tiny_llava: Loaded, samples: list[Sample]) -> Row:
    """What a pass over the first of ``samples`` gives."""
    from phasebench.measurement.passes import probed_pass
    from phasebench.models.anatomy.adapter import dissect

    inputs = tiny_llava.inputs([samples[0].open()])
    return probed_pass(dissect(tiny_llava.model, inputs), inputs)[0]


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(
    pytester: pytest.Pytester,
    tiny_llava: Loaded,
    tiny_instructblip: Loaded,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """``run("--model", "tiny-llava", ...)``: the plugin on four pictures, in an empty project.

    Every image is measured, unless a ``store`` is given. The tiny models are loaded before, so that
    what a run imports stays imported after it.
    """
    write_pictures(pytester.path / "pics", 4)

    def phasebench(
        *args: str,
        model: str | None = "tiny-llava",
        dataset: str | None = "pics",
        store: Path | None = None,
        **inline: bool,
    ) -> pytest.RunResult:
        kept = ("--store", str(store or tmp_path_factory.mktemp("store")))
        chosen = [*(["--model", model] if model else []), *(["--dataset", dataset] if dataset else [])]
        # In this process phasebench is imported before pytest could rewrite its assertions.
        imported = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        given = ("-p", "phasebench.plugin", "--phasebench", *chosen, "-p", "no:cacheprovider", *kept, *args)
        return pytester.runpytest_inprocess(*given, *imported, **inline)

    return phasebench


@contextmanager
def planted(loaded: Loaded, factor: float) -> Iterator[None]:
    """The projector's last weight tensor scaled for the time of the block."""
    import torch

    from phasebench.models.anatomy.parts import projector_of

    weight = [p for name, p in projector_of(loaded.model).named_parameters() if name.endswith("weight")][-1]
    kept = weight.clone()
    with torch.no_grad():
        weight.mul_(factor)
        try:
            yield
        finally:
            weight.copy_(kept)


@pytest.fixture
def folder(tiny_llava: Loaded, cache: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may break."""
    from phasebench.models.bundled.tiny import tiny

    return Path(shutil.copytree(tiny("tiny-llava", cache), tmp_path / "mine"))


def spoil(folder: Path, change: Callable[[dict[str, Tensor], str], None]) -> None:
    """Change the tensors of a checkpoint, given the name of one of them."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors, next(key for key in tensors if key.endswith("projector.linear_2.weight")))
    save_file(tensors, path, metadata={"format": "pt"})
