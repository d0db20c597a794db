"""What the cases ask for: the loaded model, its measurement, and the judges of one case each."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.files import packaged
from phasebench.judge.drift.baseline_folders import BASELINE_ID, FOLDERS, RUN_ID
from phasebench.plugin.comparison import Comparison
from phasebench.plugin.options import settings_of
from phasebench.plugin.reporter import KEPT, Entry, attach

if TYPE_CHECKING:
    from phasebench.judge.findings.finding import Finding, Verdict
    from phasebench.measurement.measure import Measurement
    from phasebench.models.loading import Loaded


THREADS = pytest.StashKey[int]()
"""torch's threads before anything was shared out."""
ATTACHED = pytest.StashKey[set[str]]()
"""The measurements, by ``<model>/<dataset>``, that have been attached to an item."""
OWN_ROWS = pytest.StashKey[dict[str, set[str]]]()
"""Model -> names of the rows that this run has measured of it: of any dataset, they are no earlier run's."""


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    """One model, loaded; freed before the next one is."""
    from transformers.utils.logging import disable_progress_bar

    from phasebench.files import cache_folder
    from phasebench.models.devices import empty_caches
    from phasebench.models.loading import load
    from phasebench.plugin.progress import Progress
    from phasebench.plugin.session import MODELS

    disable_progress_bar()  # bars would stand in the first failure, as captured output
    config = request.config
    settings = settings_of(config)
    _share_cores(config)
    spec = config.stash[MODELS][request.param]
    Progress(config, spec.name).say("loading")
    try:
        model = load(
            spec,
            cache_folder(),
            device=settings.device,
            dtype=settings.dtype,
            prompt=settings.prompt,
            recorded_prompt=_recorded_prompt(config),
            max_memory=settings.max_memory,
            allow_pickle=settings.allow_pickle,
            remote_code=settings.remote_code,
        )
    except InputError as error:
        raise _failed(str(error)) from None
    yield model
    model.model = None  # pytest keeps the fixture's value a while; the weights must go now
    gc.collect()
    empty_caches()  # where the next model is put depends on what the device has free


def _failed(message: str) -> BaseException:
    """A case's failure, to be raised ``from None``: what led to it would be printed before the message."""
    return pytest.fail.Exception(message, pytrace=False)


def _recorded_prompt(config: pytest.Config) -> str | None:
    """The prompt of what ``--against`` names: under another one everything would differ."""
    from phasebench.judge.drift.baselines import read_record
    from phasebench.plugin.session import DATASETS

    against, folders = config.option.against, config.stash[FOLDERS]
    if not against:
        return None
    paths = (folders.find(f"{against}/{name}/inter.json") for name in config.stash[DATASETS])
    path = next((path for path in paths if path), None)
    return read_record(path)["provenance"].get("prompt") if path else None


def _share_cores(config: pytest.Config) -> None:
    """Under pytest-xdist workers that have a model share the cores: together they would fight for all."""
    import torch

    from phasebench.plugin.session import MODELS

    threads = config.stash.setdefault(THREADS, torch.get_num_threads())
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    workers = min(workers, len(config.stash[MODELS]))
    if workers > 1:
        torch.set_num_threads(max(1, threads // workers))


@pytest.fixture(scope="session")
def measurement(request: pytest.FixtureRequest, loaded: Loaded) -> Measurement:
    """The model measured on one dataset: every image once."""
    from phasebench.measurement.measure import measure
    from phasebench.measurement.shards import Elsewhere
    from phasebench.plugin.progress import Progress
    from phasebench.plugin.session import selection

    config, name = request.config, request.param
    samples = selection(config, name).samples
    progress = Progress(config, f"{loaded.name} on {name}")
    progress.say("self-test")
    try:
        own_rows = config.stash.setdefault(OWN_ROWS, {}).setdefault(loaded.name, set())
        return measure(loaded, name, samples, settings_of(config), progress, own_rows)
    except InputError as error:
        raise _failed(f"{loaded.name} on {name}: {error}") from None
    except Elsewhere:
        pytest.skip("the first process reports")
    except KeyboardInterrupt:
        config.stash[KEPT] = progress.interrupted(settings_of(config))
        raise


@pytest.fixture(autouse=True)
def _identify_run(request: pytest.FixtureRequest) -> None:
    """Remember on the item which model and dataset it is about; hand on the measurement once."""
    if not {"loaded", "measurement"} <= {*request.fixturenames}:
        return
    measured = request.getfixturevalue("measurement")
    params, against = request.node.callspec.params, request.config.option.against
    run_id = request.node.stash[RUN_ID] = f"{params['loaded']}/{params['measurement']}"
    request.node.stash[BASELINE_ID] = f"{against or params['loaded']}/{params['measurement']}"
    attached = request.config.stash.setdefault(ATTACHED, set())
    if run_id not in attached:
        from phasebench.plugin.session import selection
        from phasebench.report.results import measurement_entry

        attached.add(run_id)
        skipped = selection(request.config, params["measurement"]).skipped
        attach(request.node, measurement_entry(measured, [skip.as_dict() for skip in skipped]))
    if request.node.path.parent != packaged("cases"):
        attach(request.node, {"kind": "own", "case": request.node.name})


@pytest.fixture
def baseline(request: pytest.FixtureRequest, snapshot: Any) -> Any:
    """syrupy's assertion over ``baselines/<model>/<dataset>/``: ``baseline(name="inter") == record``."""
    from phasebench.judge.drift.baselines import BaselineExtension
    from phasebench.plugin.session import REFERENCE

    return snapshot.use_extension(partial(BaselineExtension, request.config.stash[REFERENCE]))


@pytest.fixture
def judge(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str | Finding], None]:
    """Judge a finding, by id or itself, and compare the verdict with the recorded one.

    Without a recorded verdict the case fails unless the claim holds.
    """
    from phasebench.judge.findings import FINDINGS
    from phasebench.judge.findings.finding import Evidence
    from phasebench.plugin.session import OWN_FINDINGS

    known = FINDINGS | request.config.stash[OWN_FINDINGS]

    def judged(claim: str | Finding) -> None:
        _refuse_broken(request.node, measurement)
        if isinstance(claim, str) and claim not in known:
            pytest.fail(f"judge: there is no finding {claim!r}; there are {', '.join(known)}", pytrace=False)
        finding = known[claim] if isinstance(claim, str) else claim
        verdict = finding.verdict(Evidence(measurement.curves, measurement.controls))
        told = {"finding": finding.id, **verdict.as_dict()}
        record = {**told, "provenance": dict(measurement.curves.provenance)}
        compared = Comparison(request.node, f"verdicts/{finding.id}", record)
        names = {"kind": "finding", "id": finding.id, "recorded": _recorded_verdict(compared)}
        entry = attach(request.node, {**_plain_data(finding, verdict), **verdict.as_dict(), **names})
        why = _verdict_failure(compared, verdict, baseline)
        entry["passed"] = not why
        if why:
            pytest.fail(why, pytrace=False)

    return judged


def _recorded_verdict(compared: Comparison) -> str | None:
    """None where nothing is recorded, empty where it cannot be read."""
    if compared.path is None:
        return None
    return str((compared.recorded or {}).get("verdict", ""))


def _verdict_failure(compared: Comparison, verdict: Verdict, baseline: Any) -> str:
    """Why the case of a finding fails; empty where it does not. Writes the baseline under an update."""
    from phasebench.judge.findings.finding import Outcome

    before, undecided = _recorded_verdict(compared), verdict.outcome is Outcome.UNDECIDED
    if undecided and before not in (None, "", str(verdict.outcome)) and compared.fewer_images:
        few = f"{compared.where}: undecided, {compared.fewer_images}"
        if compared.strict:
            return few
        compared.skip(few)  # nothing is known to have changed
    if why := compared.loses_images():
        return why
    if before is not None or compared.updating:
        return "" if baseline(name=compared.name) == compared.measured else compared.failure(baseline)
    if compared.strict:
        return compared.not_recorded
    if verdict.outcome is Outcome.HOLDS:
        return ""
    claim = compared.measured["finding"]
    return f"{compared.item.stash[RUN_ID]} {claim} {verdict.outcome}: {verdict.detail}"


@pytest.fixture
def check_drift(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str], None]:
    """Compare a curve with its baseline; where none is recorded skipped, and counted as such, or failed."""
    from phasebench.judge.drift.record import record

    def checked(curve: str) -> None:
        _refuse_broken(request.node, measurement)
        if curve not in CURVES:
            told = f"check_drift: there is no curve {curve!r}; there are {', '.join(CURVES)}"
            pytest.fail(told, pytrace=False)
        compared = Comparison(request.node, curve, record(measurement.curves, curve))
        if compared.path is None and not compared.updating:
            _pass_over(compared, compared.not_recorded)
        entry = _drift_entry(compared)
        why, cause = compared.loses_images(), ""
        if not why and baseline(name=curve) != compared.measured:
            cause = compared.cause(measurement.curves)
            told = compared.failure(baseline)
            why = f"{told}\nlikely cause: {cause}" if cause else told
        updated = not why and bool(entry["told"])
        entry = attach(request.node, {**entry, "updated": updated, "cause": cause})
        entry["passed"] = not why
        if why:
            pytest.fail(why, pytrace=False)

    return checked


def _drift_entry(compared: Comparison) -> Entry:
    """How a curve differs from what is recorded before anything is written."""
    from phasebench.judge.drift.difference import as_entry
    from phasebench.judge.drift.record import columns
    from phasebench.judge.statistics import MIN_ITEMS

    recorded, measured = compared.recorded, compared.measured
    if recorded is None:
        return _incomparable(compared.name, compared.unreadable or "first recorded")
    try:
        difference = compared.reference.compare(recorded, measured)
    except InputError as error:
        return _incomparable(compared.name, str(error))
    entry = {**as_entry(difference), "baseline": columns(recorded)}
    if not difference.decidable and not compared.updating:
        few = f"{compared.where}: fewer than {MIN_ITEMS} items cannot be compared with others"
        scarcer = len(recorded["images"]) < len(measured["images"])  # the way out is on the side with fewer
        _pass_over(compared, f"{few}; {'record more of them' if scarcer else 'raise --images'}")
    if compared.item.config.option.update_snapshots and compared.fewer_images:
        entry["left"] = compared.fewer_images
    if why := compared.renewed():
        entry["told"] = entry["told"] or [why]
    return {"kind": "drift", **entry}


def _pass_over(compared: Comparison, why: str) -> NoReturn:
    """Skip a curve that cannot be compared; under ``--strict-baselines`` fail, and let the report say so."""
    if not compared.strict:
        compared.skip(why)
    attach(compared.item, _incomparable(compared.name, why))["passed"] = False
    pytest.fail(why, pytrace=False)


def _incomparable(curve: str, why: str) -> Entry:
    """The entry of a curve without a difference."""
    unknown = dict.fromkeys(("layer", "excess", "recorded", "measured", "low", "high", "effect"))
    rest = {"shared": 0, "images": 0, "told": [why], "updated": False, "cause": ""}
    return {"kind": "drift", "curve": curve, **unknown, **rest}


def _refuse_broken(item: pytest.Item, measurement: Measurement) -> None:
    """Fail where images gave NaN or infinity: nothing is judged on the rest of them, nothing recorded."""
    if measurement.broken:
        image, where = next(iter(measurement.broken.items()))
        count = f"{len(measurement.broken)} of {len(measurement.curves.items)} images"
        pytest.fail(f"{item.stash[RUN_ID]}: {count} are broken; the first, {image}: {where}", pytrace=False)


def _plain_data(finding: Finding, verdict: Verdict) -> dict[str, Any]:
    """What a user's verdict has beside the numbers, which goes into files."""
    try:
        json.dumps(dict(verdict.data), allow_nan=False)
    except (TypeError, ValueError) as error:
        pytest.fail(
            f"finding {finding.id}: its verdict's data cannot be written as JSON: {error}", pytrace=False
        )
    return dict(verdict.data)
