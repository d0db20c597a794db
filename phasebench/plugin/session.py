"""The second plugin, registered only under ``--phasebench``: what runs, on what, and what is told.

Models and datasets are session-scoped parameters: pytest loads one model, measures it on each
dataset once, hands the result to every case, and frees it before the next model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from phasebench import processes
from phasebench.catalog import CURVES, FINDINGS, SAFE
from phasebench.files import packaged
from phasebench.judge.drift.baseline_folders import FOLDERS, Folders, own_folder, updating
from phasebench.plugin import named as known
from phasebench.plugin.options import DEFAULT_DATASETS, DEFAULT_EFFECT, settings_of, usage
from phasebench.report import outputs
from phasebench.settings import DEFAULT_MODELS

if TYPE_CHECKING:
    from phasebench.datasets.named_datasets import DatasetSpec
    from phasebench.datasets.selection import Selection
    from phasebench.judge.drift.baselines import Reference
    from phasebench.judge.findings.finding import Finding
    from phasebench.models.named_models import ModelSpec
    from phasebench.settings import Settings

MODELS: pytest.StashKey[dict[str, ModelSpec]] = pytest.StashKey()
DATASETS: pytest.StashKey[dict[str, DatasetSpec]] = pytest.StashKey()
SELECTIONS: pytest.StashKey[dict[str, Selection]] = pytest.StashKey()
REFERENCE: pytest.StashKey[Reference] = pytest.StashKey()
OWN_FINDINGS: pytest.StashKey[dict[str, Finding]] = pytest.StashKey()
BENCHMARK_COLUMNS = ("median", "iqr", "rounds")
CUT_SHORT = "ignore:syrupy. received .* worker snapshot reports"
"""Said of workers that Ctrl-C ended; where warnings are errors it would hide what we say."""
MARKERS = (
    "finding: a claim of the paper is judged",
    "drift: a curve is compared with its baseline",
    "latency: the recorded durations are handed to pytest-benchmark",
    "benchmark: pytest-benchmark's settings of a case; known without it too",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare markers, see that outputs can be written and cases collected, and settle the folders."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.addinivalue_line("filterwarnings", CUT_SHORT)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # what it warns of is checked, or told by us
    if config.option.phasebench_cache:
        os.environ["PHASEBENCH_CACHE"] = str(config.option.phasebench_cache)
    with usage():
        outputs.check(config.option)
    _quieten_benchmark(config)
    config.stash[FOLDERS] = Folders(own_folder(config), packaged("baselines"))
    functions = config.getini("python_functions")  # prefixes or patterns
    if not any("test_drift".startswith(name) or fnmatch("test_drift", name) for name in functions):
        raise pytest.UsageError("python_functions: phasebench's cases are called test_*; add test to it")


def _quieten_benchmark(config: pytest.Config) -> None:
    """pytest-benchmark's table within 80 columns, and none under ``-q`` unless timings are asked for."""
    option = config.option
    if not hasattr(option, "benchmark_columns"):
        return
    option.benchmark_columns = option.benchmark_columns or list(BENCHMARK_COLUMNS)
    option.benchmark_quiet |= getattr(option, "verbose", 0) < 0 and "latency" not in option.markexpr


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Resolve models and datasets, and run the cases unless the user named files.

    The conftest files have been read, no worker has started.

    Raises:
        pytest.UsageError: a name is unknown, and it lists the known ones; or an input cannot be read.
    """
    from phasebench.datasets.named_datasets import resolve_datasets
    from phasebench.models.named_models import resolve_models

    config = session.config
    with usage():
        models = resolve_models(config.option.model or DEFAULT_MODELS, known.models(config))
        datasets = resolve_datasets(config.option.dataset or DEFAULT_DATASETS, known.datasets(config))
    config.stash[MODELS] = {spec.name: spec for spec in models}
    config.stash[DATASETS] = {spec.name: spec for spec in datasets}
    if not config.option.collectonly:
        _check_inputs(config)
    own = config.stash[OWN_FINDINGS] = _own_findings(config)
    if config.args_source is not config.ArgsSource.ARGS:
        config.args = _cases(own=bool(own))


def _check_inputs(config: pytest.Config) -> None:
    """See that baselines, device, models and datasets are there: a typing error must not cost an hour."""
    models, datasets = config.stash[MODELS], config.stash[DATASETS]
    config.stash[REFERENCE] = _reference(config, list(datasets))
    _check_devices(settings_of(config))
    _look_up(list(models.values()), config)
    config.stash[SELECTIONS] = {}
    if not hasattr(config, "workerinput"):  # the controller has seen all of them
        for name in datasets:
            selection(config, name)


def _own_findings(config: pytest.Config) -> dict[str, Finding]:
    """The findings that hooks give, by ids that no other has."""
    hook = "pytest_phasebench_findings"
    with usage():
        findings = known.findings(config)
    ids = [*FINDINGS, *(finding.id for finding in findings)]
    for name in ids:
        if not name or set(name) - SAFE:
            told = "letters, digits, . _ - only: it names a file"
            raise pytest.UsageError(f"{hook}: the id {name!r} has others than {told}")
    if doubled := sorted({name for name in ids if ids.count(name) > 1}):
        raise pytest.UsageError(f"{hook}: the ids {', '.join(doubled)} are taken")
    return {finding.id: finding for finding in findings}


def _cases(*, own: bool) -> list[str]:
    """The files of the cases: what is named is collected whatever python_files says."""
    files = sorted(packaged("cases").glob("test_*.py"))
    return [str(path) for path in files if own or path.stem != "test_own_findings"]


def _reference(config: pytest.Config, datasets: Sequence[str]) -> Reference:
    """What the measurements are held against, known to be there."""
    from phasebench.judge.drift.baselines import Reference

    option, folders = config.option, config.stash[FOLDERS]
    against, effect = option.against, option.effect
    if effect is not None and not against:
        raise pytest.UsageError("--effect: only with --against NAME; a model's own curves may not differ")
    if against and updating(config):
        raise pytest.UsageError(f"--against {against}: nothing is recorded under another model's name")
    recorded = folders.recorded() if against else {}
    missing = [name for name in datasets if against and name not in recorded.get(against, ())]
    if missing:
        told = "; ".join(f"{model} on {', '.join(known)}" for model, known in recorded.items())
        raise pytest.UsageError(
            f"--against {against}: no baselines of it on {', '.join(missing)}; recorded: {told or 'nothing'}"
        )
    if against and effect is None:
        effect = DEFAULT_EFFECT
    with usage():
        return Reference.of(folders, against, effect, renew=option.update_snapshots)


def _check_devices(settings: Settings) -> None:
    """See that device and memory are there, where any are named: torch is imported for it."""
    if settings.device == "auto" and not settings.max_memory:
        return
    from phasebench.models.devices import parse_memory, pick_device

    with usage():
        pick_device(settings.device)
        if settings.max_memory:
            parse_memory(settings.max_memory)


def _look_up(models: Sequence[ModelSpec], config: pytest.Config) -> None:
    """See that what must be fetched or converted can be had, and that folders are whole."""
    from phasebench.models.checks import check_code, check_folder
    from phasebench.models.hub import Hub, look_up

    settings = settings_of(config)
    flags = {"allow_pickle": settings.allow_pickle, "remote_code": settings.remote_code}
    for spec in models:
        with usage():
            if isinstance(spec.source, Hub):
                folder = look_up(spec.name, spec.source)
                check_code(spec.name, folder, remote_code=settings.remote_code)
            elif spec.source is None or isinstance(spec.source, Path):
                check_folder(spec.name, spec.folder(Path()), **flags)


def selection(config: pytest.Config, name: str) -> Selection:
    """What is drawn from a dataset, once; every process of a run draws the same from the same files."""
    from phasebench.datasets.named_datasets import read
    from phasebench.datasets.selection import select
    from phasebench.files import cache_folder

    option, found = config.option, config.stash[SELECTIONS]
    if name not in found:
        with usage(f"--dataset {name}: "):
            samples = read(config.stash[DATASETS][name], cache_folder())
            found[name] = select(samples, option.images, option.seed, strict=option.strict_data)
    return found[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise every case that asks for a measurement over models and datasets."""
    stash = metafunc.config.stash
    if "loaded" in metafunc.fixturenames:  # a user's own fixture may be called measurement
        models, datasets = stash[MODELS], stash[DATASETS]
        metafunc.parametrize("loaded", list(models), indirect=True, scope="session")
        if "measurement" in metafunc.fixturenames:
            metafunc.parametrize("measurement", list(datasets), indirect=True, scope="session")
    if metafunc.definition.path.parent != packaged("cases"):
        return
    if "curve" in metafunc.fixturenames:
        metafunc.parametrize("curve", CURVES)
    if "own_finding" in metafunc.fixturenames:
        metafunc.parametrize(
            "own_finding", list(stash[OWN_FINDINGS].values()), ids=lambda finding: finding.id
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep each model's cases together: pytest parts those that ask for it alone, and it would load again."""
    models = config.stash[MODELS]
    order = {name: number for number, name in enumerate(models)}

    def model_of(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        return order.get(callspec.params.get("loaded"), -1) if callspec else -1

    own = [item for item in items if model_of(item) >= 0]
    together = iter(sorted(own, key=model_of))
    items[:] = [next(together) if model_of(item) >= 0 else item for item in items]


def pytest_report_header(config: pytest.Config) -> str:
    """One line: what is asked for."""
    settings = settings_of(config)
    models = ", ".join(config.option.model or DEFAULT_MODELS)
    datasets = ", ".join(config.option.dataset or DEFAULT_DATASETS)
    beside = f" against {config.option.against}" if config.option.against else ""
    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    return (
        f"phasebench: {models} on {datasets}{beside}; at most {settings.images} images, "
        f"device {settings.device}{several}"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under pytest-xdist each model goes to one worker, with all its datasets and cases."""
    from xdist.scheduler import LoadScopeScheduling

    models = config.stash[MODELS]
    names = sorted(models, key=len, reverse=True)

    class ByModel(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            case = nodeid.rpartition("[")[2]
            return next((name for name in names if case.startswith((f"{name}-", f"{name}]"))), nodeid)

    return ByModel(config, log)
