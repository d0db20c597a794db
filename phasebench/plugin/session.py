"""The choice of cases, models and datasets and their order; registered only under ``--phasebench``.

Models and datasets are session-scoped parameters: pytest loads one model, measures it on each dataset once,
passes the measurement to every case, and frees the model before the next one.
"""

from __future__ import annotations

import logging
import os
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

from phasebench import processes
from phasebench.catalog import CURVES
from phasebench.files import SAFE_IN_NAMES, packaged_folder
from phasebench.judge.drift.baseline_folders import Folders
from phasebench.plugin import named
from phasebench.plugin.case_ids import packaged_path
from phasebench.plugin.inputs import check_inputs
from phasebench.plugin.options import DEFAULT_DATASETS, parsed_mode, parsed_settings, usage
from phasebench.plugin.progress import Progress
from phasebench.plugin.project import baselines_folder, case_files, check_writable
from phasebench.plugin.required import check_fixtures
from phasebench.plugin.run import RUN, Run, run_of
from phasebench.report import outputs
from phasebench.settings import DEFAULT_MODELS

if TYPE_CHECKING:
    from phasebench.judge.findings.finding import Finding

BENCHMARK_COLUMNS = ("median", "iqr", "rounds")
SYRUPY_WARNING = "ignore:syrupy. received .* worker snapshot reports"
"""syrupy warns of workers that Ctrl-C ended; where warnings are errors this would hide our own message."""
MARKERS = (
    "finding: a claim of the paper is judged",
    "drift: a curve is compared with its baseline",
    "latency: the recorded durations are handed to pytest-benchmark",
    "benchmark: pytest-benchmark's settings of a case; declared without it too",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare markers, check that outputs can be written and cases collected, and create the ``Run``."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.addinivalue_line("filterwarnings", SYRUPY_WARNING)
    # phasebench checks what transformers warns about, or reports it itself.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of what the machine lacks when imported
    option = config.option
    if option.phasebench_cache:
        os.environ["PHASEBENCH_CACHE"] = str(option.phasebench_cache)
    with usage():
        outputs.check(option)
    _shorten_benchmark_table(config)
    mode = parsed_mode(option)
    folders = Folders(baselines_folder(config, mode), packaged_folder("baselines"))
    if mode.create:
        check_writable(folders.own)
    config.stash[RUN] = Run(parsed_settings(option), mode, folders, against=option.against)
    functions = config.getini("python_functions")  # prefixes or patterns
    if not any("test_drift".startswith(name) or fnmatch("test_drift", name) for name in functions):
        raise pytest.UsageError("python_functions: phasebench's cases are called test_*; add test to it")


def _shorten_benchmark_table(config: pytest.Config) -> None:
    """Fit pytest-benchmark's table into 80 columns; omit it under ``-q`` unless only timings are selected."""
    option = config.option
    if not hasattr(option, "benchmark_columns"):
        return
    option.benchmark_columns = option.benchmark_columns or list(BENCHMARK_COLUMNS)
    option.benchmark_quiet |= getattr(option, "verbose", 0) < 0 and "latency" not in option.markexpr


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Resolve models and datasets, and choose the case files unless the user named files.

    At this time the conftest files are read, and no worker is started.

    Raises:
        pytest.UsageError: a name is unknown (the message lists all names), or an input cannot be read.
    """
    config = session.config
    # Numpy, scipy and Pillow take a second to be imported.
    Progress(config, "phasebench").show("checking models, datasets and baselines")
    from phasebench.datasets.named_datasets import resolve_datasets
    from phasebench.models.resolution import resolve_models

    run = run_of(config)
    with usage():
        model_specs, dataset_specs = named.models(config), named.datasets(config)
    with usage("--model "):
        models = resolve_models(config.option.model or DEFAULT_MODELS, model_specs)
    with usage("--dataset "):
        datasets = resolve_datasets(config.option.dataset or DEFAULT_DATASETS, dataset_specs)
    run.models = {spec.name: spec for spec in models}
    run.datasets = {spec.name: spec for spec in datasets}
    if not config.option.collectonly:
        check_inputs(config)
    run.findings = _findings_of_hooks(config)
    if _names_files(config):
        config.args = [packaged_path(argument, config.invocation_params.dir) for argument in config.args]
    else:
        config.args = case_files(config, with_hooks=bool(run.findings))


def _names_files(config: pytest.Config) -> bool:
    """Whether the user named files; paths in the ini file's ``addopts`` are those of the project's tests."""
    if config.args_source is not config.ArgsSource.ARGS:
        return False
    return bool(config._parser.parse_known_args(list(config.invocation_params.args)).file_or_dir)


def _findings_of_hooks(config: pytest.Config) -> dict[str, Finding]:
    """The findings of the user's hooks by id, after a check that ids are unique and can name a file."""
    from phasebench.judge.findings.finding import PREFIX

    hook = "pytest_phasebench_findings"
    with usage():
        findings = named.findings(config)
    files = packaged_folder("cases").glob(f"{PREFIX}*.py")
    ids = [*(path.stem.removeprefix(PREFIX) for path in files), *(finding.id for finding in findings)]
    for name in ids:
        if not name or set(name) - SAFE_IN_NAMES:
            rule = "letters, digits, . _ - only: it names a file"
            raise pytest.UsageError(f"{hook}: the id {name!r} has others than {rule}")
    if duplicates := sorted({name for name in ids if ids.count(name) > 1}):
        raise pytest.UsageError(f"{hook}: the ids {', '.join(duplicates)} are taken")
    return {finding.id: finding for finding in findings}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark cases of ``phasebench.finding``, so that ``-m finding`` selects them."""
    from phasebench.judge.findings.finding import finding_of

    if finding_of(getattr(item, "function", None)):
        item.add_marker("finding")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise every case that has a measurement over models and datasets."""
    run = run_of(metafunc.config)
    if "loaded" in metafunc.fixturenames:  # a user's own fixture may be called measurement
        metafunc.parametrize("loaded", list(run.models), indirect=True, scope="session")
        if "measurement" in metafunc.fixturenames:
            metafunc.parametrize("measurement", list(run.datasets), indirect=True, scope="session")
    if metafunc.definition.path.parent != packaged_folder("cases"):
        return
    if "curve" in metafunc.fixturenames:
        metafunc.parametrize("curve", CURVES)
    if "own_finding" in metafunc.fixturenames:
        findings = list(run.findings.values())
        metafunc.parametrize("own_finding", findings, ids=lambda finding: finding.id)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep each model's cases together, so that it is loaded once.

    pytest would separate cases that use only the model from those that also use a dataset.
    """
    check_fixtures(items)
    order = {name: number for number, name in enumerate(run_of(config).models)}

    def model_number(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        return order.get(callspec.params.get("loaded"), -1) if callspec else -1

    with_model = [item for item in items if model_number(item) >= 0]
    by_model = iter(sorted(with_model, key=model_number))
    items[:] = [next(by_model) if model_number(item) >= 0 else item for item in items]


def pytest_report_header(config: pytest.Config) -> str:
    """A line with the run's models, datasets and settings."""
    settings = run_of(config).settings
    models = ", ".join(config.option.model or DEFAULT_MODELS)
    datasets = ", ".join(config.option.dataset or DEFAULT_DATASETS)
    against = f" against {config.option.against}" if config.option.against else ""
    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    return (
        f"phasebench: {models} on {datasets}{against}; at most {settings.images} images, "
        f"device {settings.device}{several}"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let pytest-xdist give each model to one worker, with all its datasets and cases."""
    from xdist.scheduler import LoadScopeScheduling

    names = sorted(run_of(config).models, key=len, reverse=True)

    class ByModel(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            case = nodeid.rpartition("[")[2]
            return next((name for name in names if case.startswith((f"{name}-", f"{name}]"))), nodeid)

    return ByModel(config, log)
