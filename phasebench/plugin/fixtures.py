"""The cases' fixtures: the loaded model, its measurement, and functions that judge a finding or a curve."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.files import packaged_folder
from phasebench.plugin.blocking import block
from phasebench.plugin.run import CASE, Case, Run, attach, case_of, run_of
from phasebench.report.entries import DriftEntry, OwnCaseEntry
from phasebench.settings import REMEDIES, with_option

if TYPE_CHECKING:
    from phasebench.judge.findings.finding import Finding
    from phasebench.judge.findings.verdict import Verdict
    from phasebench.measurement.measure import Measurement
    from phasebench.models.loading import LoadedModel
    from phasebench.plugin.comparison import Comparison


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> Iterator[LoadedModel]:
    """A loaded model; it is freed before the next one is loaded."""
    from phasebench.plugin.progress import Progress

    config = request.config
    run = run_of(config)
    spec = run.models[request.param]
    progress = Progress(config, spec.name)
    if "transformers" not in sys.modules:
        progress.show("importing torch and transformers")
    from transformers.utils.logging import disable_progress_bar

    from phasebench.files import cache_folder
    from phasebench.models.loading import load
    from phasebench.models.memory import empty_caches

    disable_progress_bar()  # its bars would appear in the first failure, as captured output
    _share_cores(config)
    with _blocking(run, spec.name, f"--model {spec.name}", f"{spec.name} could not be loaded"):
        model = load(spec, cache_folder(), run.settings, _recorded_prompt(run), progress.show)
    yield model
    model.model = None  # pytest keeps the fixture's value for a while; the weights must be freed now
    gc.collect()
    empty_caches()  # the next model's placement depends on the device's free memory


@contextmanager
def _blocking(run: Run, key: str, name: str, reason: str) -> Iterator[None]:
    """On an error, block the other cases of ``key``; an ``InputError`` becomes a failure of one line."""
    try:
        yield
    except InputError as error:
        block(run, key, reason)
        # With its cause, pytest would print the cause's traceback before the message.
        raise pytest.fail.Exception(f"{name}: {with_option(error)}", pytrace=False) from None
    except pytest.fail.Exception as error:  # pytest-timeout fails whatever runs when the time is over
        block(run, key, reason)
        message = f"{name}: stopped: {str(error).strip()} All cases share this step; {REMEDIES['timeout']}"
        raise pytest.fail.Exception(message, pytrace=False) from None
    except Exception:
        block(run, key, reason)
        raise
    run.blocks.pop(key, None)  # pytest-rerunfailures may repeat the case with success


def _recorded_prompt(run: Run) -> str | None:
    """The prompt in the baselines of ``--against``; with another prompt every curve would differ."""
    from phasebench.judge.drift.reference import read_record

    if not run.against:
        return None
    paths = (run.folders.find(f"{run.against}/{name}/inter.json") for name in run.datasets)
    path = next((path for path in paths if path), None)
    return read_record(path)["provenance"].get("prompt") if path else None


def _share_cores(config: pytest.Config) -> None:
    """Divide the cores among pytest-xdist's workers that have a model, so that they do not compete."""
    import torch

    run = run_of(config)
    run.threads = run.threads or torch.get_num_threads()
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    workers = min(workers, len(run.models))
    if workers > 1:
        torch.set_num_threads(max(1, run.threads // workers))


@pytest.fixture(scope="session")
def measurement(request: pytest.FixtureRequest, loaded: LoadedModel) -> Measurement:
    """The measurement of the model on one dataset."""
    from phasebench.measurement.measure import measure
    from phasebench.measurement.shards import ShareMeasured
    from phasebench.plugin.inputs import selection
    from phasebench.plugin.progress import Progress

    config, name = request.config, request.param
    run, samples = run_of(config), selection(config, name).samples
    progress = Progress(config, f"{loaded.name} on {name}")
    progress.show("self-test")
    rows, label = run.measured_rows.setdefault(loaded.name, set()), f"{loaded.name} on {name}"
    with _blocking(run, f"{loaded.name}/{name}", label, f"{label} could not be measured"):
        try:
            measured = measure(loaded, name, samples, run.settings, progress, rows)
        except ShareMeasured:
            pytest.skip("the first process reports")
        except KeyboardInterrupt:
            run.interrupted = progress.interrupted(run.settings)
            raise
        if measured.refused and config.option.strict_data:
            reason = f"{len(measured.refused)} images are not measured; {measured.refused[0].message}"
            raise InputError(reason, remedy="strict_data")
        return measured


@pytest.fixture(autouse=True)
def _identify_case(request: pytest.FixtureRequest) -> None:
    """Note the model and dataset on the item, and attach each measurement to one item."""
    if not {"loaded", "measurement"} <= {*request.fixturenames}:
        return
    from phasebench.judge.findings.finding import finding_of
    from phasebench.plugin.inputs import selection
    from phasebench.report.conversion import measurement_entry

    measurement = request.getfixturevalue("measurement")
    item, run = request.node, run_of(request.config)
    model, dataset = (item.callspec.params[name] for name in ("loaded", "measurement"))
    case = item.stash[CASE] = Case(model, dataset, run.against or model)
    if case.run_id not in run.reported:
        run.reported.add(case.run_id)
        skips = (*selection(request.config, dataset).skipped, *measurement.refused)
        attach(item, measurement_entry(measurement, [skip.as_dict() for skip in skips]))
    if item.path.parent != packaged_folder("cases") and not finding_of(item.function):
        attach(item, OwnCaseEntry(case=item.name))


@pytest.fixture
def baseline(request: pytest.FixtureRequest, snapshot: Any) -> Any:
    """syrupy's assertion over ``baselines/<model>/<dataset>/``: ``baseline(name="inter") == record``."""
    from phasebench.plugin.snapshot import BaselineExtension

    return snapshot.use_extension(partial(BaselineExtension, run_of(request.config)))


@pytest.fixture
def judge(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str | Finding], None]:
    """A function that judges a finding, or its id, and compares the verdict with the recorded one.

    Without a recorded verdict the case fails unless the claim holds.
    """
    from phasebench.judge.findings.finding import FINDINGS, Evidence
    from phasebench.plugin.comparison import VERDICTS, Comparison
    from phasebench.report.conversion import finding_entry

    def judge_finding(claim: str | Finding) -> None:
        _fail_if_broken(request.node, measurement)
        findings = {**FINDINGS, **run_of(request.config).findings} if isinstance(claim, str) else {}
        if isinstance(claim, str) and claim not in findings:
            message = f"judge: there is no finding {claim!r}; there are {', '.join(findings)}"
            pytest.fail(message, pytrace=False)
        finding = findings[claim] if isinstance(claim, str) else claim
        verdict = finding.verdict(Evidence(measurement.curves, measurement.controls))
        _fail_if_not_plain(finding, verdict)
        provenance = dict(measurement.curves.provenance)
        record = {"finding": finding.id, **verdict.as_dict(), "provenance": provenance}
        comparison = Comparison(request.node, f"{VERDICTS}{finding.id}", record)
        entry = attach(request.node, finding_entry(finding, verdict, _recorded_verdict(comparison)))
        comparison.skip_if_nothing_to_compare()
        _finish_case(comparison, baseline, entry)

    return judge_finding


def _recorded_verdict(comparison: Comparison) -> str | None:
    """The recorded outcome; None if nothing is recorded, empty if it cannot be read."""
    recorded = comparison.recorded
    if recorded is None or isinstance(recorded, InputError):
        return None if recorded is None else ""
    return str(recorded.get("verdict", ""))


def _finish_case(comparison: Comparison, baseline: Any, entry: Any, curves: Any = None) -> None:
    """Carry out the decision: pass or fail the case, and mark its entry.

    With ``curves`` a failure's message names the likely cause.
    """
    from phasebench.judge.drift.decision import Action
    from phasebench.plugin.comparison import COMPARED

    entry.passed, message = False, "not written"
    try:
        message = comparison.carry_out(baseline)  # it may skip the case
    finally:
        entry.passed = not message
        if isinstance(entry, DriftEntry):
            entry.updated &= entry.passed
    is_drift = comparison.decision.action is Action.FAIL and comparison.decision.reason in COMPARED
    if message and curves is not None and is_drift:
        entry.cause = comparison.cause(curves)
        message = f"{message}\nlikely cause: {entry.cause}" if entry.cause else message
    if message:
        pytest.fail(message, pytrace=False)


@pytest.fixture
def check_drift(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str], None]:
    """A function that compares a curve with its baseline.

    Without a baseline the case is skipped and counted, or under ``--strict-baselines`` failed.
    """
    from phasebench.judge.drift.record import record
    from phasebench.plugin.comparison import Comparison

    def check(curve: str) -> None:
        _fail_if_broken(request.node, measurement)
        if curve not in CURVES:
            message = f"check_drift: there is no curve {curve!r}; there are {', '.join(CURVES)}"
            pytest.fail(message, pytrace=False)
        comparison = Comparison(request.node, curve, record(measurement.curves, curve))
        comparison.skip_if_nothing_to_compare()
        entry = attach(request.node, _drift_entry(comparison))
        _finish_case(comparison, baseline, entry, measurement.curves)

    return check


def _drift_entry(comparison: Comparison) -> DriftEntry:
    """The entry of a curve's difference from its baseline, before anything is written."""
    from phasebench.judge.drift.decision import Action, Reason, fewer_images, image_counts
    from phasebench.report.conversion import drift_entry

    decision, recorded, measured = comparison.decision, comparison.recorded, comparison.measured
    if decision.reason is Reason.FEW_ITEMS or recorded is None or isinstance(recorded, InputError):
        entry = drift_entry(comparison.name, None, None)
    else:
        entry = drift_entry(comparison.name, decision.difference, recorded)
        if comparison.run.mode.update and fewer_images(recorded, measured):
            entry.left = image_counts(recorded, measured)
    failed_alone = decision.action is Action.FAIL and entry.excess is None
    entry.lines = [comparison.message()] if failed_alone else list(decision.lines)
    entry.updated = decision.action is Action.WRITE
    return entry


def _fail_if_broken(item: pytest.Item, measurement: Measurement) -> None:
    """Fail if images gave NaN or infinity: the other images are neither judged nor recorded."""
    if measurement.broken:
        image, reason = next(iter(measurement.broken.items()))
        count = f"{len(measurement.broken)} of {len(measurement.curves.items)} images"
        block(run_of(item.config), case_of(item).run_id, f"{count} are broken")
        pytest.fail(f"{count} are broken; the first, {image}: {reason}", pytrace=False)


def _fail_if_not_plain(finding: Finding, verdict: Verdict) -> None:
    """Fail if a user's verdict has data that cannot be written into the results."""
    try:
        json.dumps(dict(verdict.data), allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"finding {finding.id}: its verdict's data cannot be written as JSON: {error}"
        pytest.fail(message, pytrace=False)
