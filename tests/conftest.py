"""Shared fixtures: tiny models, small datasets on disk, and runs of the plugin inside pytest.

``pytest --phasebench`` in a checkout reads this file too, so nothing heavy is imported and nothing is set
before a test needs it.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.checkpoints import load_tiny
from tests.support.pictures import write_pictures
from tests.support.runs import Run

if TYPE_CHECKING:
    from PIL import Image

    from phasebench.datasets.sample import Sample
    from phasebench.measurement.passes import Row
    from phasebench.models.loading import LoadedModel

NOT_IMPORTED = ("phasebench.cases", "phasebench.baselines")


@pytest.fixture(scope="session", autouse=True)
def _common_setup() -> None:
    """Import all modules and set the number of threads, once for all tests.

    A pytest run inside a test removes the modules that it imported first; those imported here stay. Objects
    made at import are frozen, so that garbage collection in the runs skips them. Tiny products are slower on
    several threads, above all on a busy machine.
    """
    import torch

    import phasebench

    for module in pkgutil.walk_packages(phasebench.__path__, "phasebench."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    importlib.import_module("matplotlib.backends.backend_pdf")
    for name in ("layout", "scatter", "heatmap"):  # plotly imports classes when they are used, and keeps some
        importlib.import_module(f"plotly.graph_objs._{name}")
        package = importlib.import_module(f"plotly.graph_objs.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("blip_2", "llava_next", "opt", "t5"):  # those of the tiny-random models
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    # Runs inside tests are not in CI.
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        os.environ.pop(name, None)
    gc.collect()
    gc.freeze()
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs inside tests be no workers of pytest-xdist, even if the test itself runs in one."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of all tests; workers of pytest-xdist share one, so that models are made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "phasebench-cache"
    folder.mkdir(exist_ok=True)
    before = os.environ.get("PHASEBENCH_CACHE")
    os.environ["PHASEBENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PHASEBENCH_CACHE"]
    else:
        os.environ["PHASEBENCH_CACHE"] = before


@pytest.fixture(scope="session")
def tiny_llava(cache: Path) -> LoadedModel:
    return load_tiny("tiny-llava", cache)


@pytest.fixture(scope="session")
def tiny_instructblip(cache: Path) -> LoadedModel:
    return load_tiny("tiny-instructblip", cache)


@pytest.fixture(scope="session", params=["tiny-llava", "tiny-instructblip"])
def tiny(request: pytest.FixtureRequest) -> LoadedModel:
    loaded: LoadedModel = request.getfixturevalue(request.param.replace("-", "_"))
    return loaded


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    from phasebench.datasets.scenes import render, scenes

    return [render(scene) for scene in islice(scenes("held_out", 7), 6)]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    from phasebench.datasets.coco import read_coco

    return read_coco(write_pictures(tmp_path / "pics", 5))


@pytest.fixture
def row(tiny_llava: LoadedModel, samples: list[Sample]) -> Row:
    """The row of a pass over the first of ``samples``."""
    from phasebench.measurement.passes import probed_pass
    from phasebench.models.anatomy.adapter import dissect

    inputs = tiny_llava.inputs([samples[0].open()])
    return probed_pass(dissect(tiny_llava.model, inputs), inputs)[0]


@pytest.fixture
def run(
    pytester: pytest.Pytester,
    tiny_llava: LoadedModel,
    tiny_instructblip: LoadedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """``run("--model", "tiny-llava", ...)``: the plugin on four pictures, in an empty project.

    Every image is measured, unless a ``store`` is given. The tiny models are loaded before, so that the
    modules they need stay imported after a run.
    """
    write_pictures(pytester.path / "pics", 4)

    def phasebench(
        *args: str,
        model: str | None = "tiny-llava",
        dataset: str | None = "pics",
        store: Path | None = None,
        **inline: bool,
    ) -> pytest.RunResult:
        names = [*(["--model", model] if model else []), *(["--dataset", dataset] if dataset else [])]
        options = [
            *("-p", "phasebench.plugin", "--phasebench", "-p", "no:cacheprovider"),
            *("--store", str(store or tmp_path_factory.mktemp("store"))),
        ]
        # phasebench is imported in this process before pytest could rewrite its assertions.
        warning = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        return pytester.runpytest_inprocess(*options, *names, *args, *warning, **inline)

    return phasebench


@pytest.fixture(scope="session")
def recorded_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baselines that ``recorded`` copies; the first test that uses it writes them."""
    return tmp_path_factory.mktemp("recorded") / "baselines"


@pytest.fixture
def recorded(run: Run, pytester: pytest.Pytester, recorded_template: Path) -> Path:
    """Baselines of tiny-llava on the four pictures of ``run``, in its project."""
    baselines = pytester.path / "baselines"
    if not recorded_template.exists():
        assert run("--snapshot-update").ret == 0
        shutil.copytree(baselines, recorded_template)
    else:
        shutil.copytree(recorded_template, baselines)
    return baselines / "tiny-llava" / "pics"


@pytest.fixture
def folder(tiny_llava: LoadedModel, cache: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may change."""
    from phasebench.models.bundled.tiny import make_tiny_model

    return Path(shutil.copytree(make_tiny_model("tiny-llava", cache), tmp_path / "mine"))
