"""What the cases ask for: the loaded model, its measurement, and the judges of one case each."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from phasebench.collector import KEPT, UNCOMPARED, attach
from phasebench.errors import InputError
from phasebench.names import CURVES
from phasebench.options import settings_of
from phasebench.places import BASELINE, FOLDERS, PLACE, packaged

if TYPE_CHECKING:
    from phasebench.judge.finding import Finding, Verdict
    from phasebench.measure.run import Measurement
    from phasebench.models.loading import Loaded


THREADS = pytest.StashKey[int]()
"""torch's threads before anything was shared out."""
TOLD = pytest.StashKey[set[str]]()
"""Places whose measurement has been attached to an item."""
CAUSES = pytest.StashKey[dict[str, str]]()
"""The likely cause of each place's drift."""


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    """One model, loaded; freed before the next one is."""
    from transformers.utils.logging import disable_progress_bar

    from phasebench.cache import cache_folder
    from phasebench.models.devices import empty_caches
    from phasebench.models.loading import load
    from phasebench.progress import Progress
    from phasebench.session import MODELS

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
            usual=_recorded_prompt(config),
            max_memory=settings.max_memory,
            allow_pickle=settings.allow_pickle,
            remote_code=settings.remote_code,
        )
    except InputError as error:
        raise _failed(str(error)) from None
    yield model
    model.model = None  # pytest keeps the fixture's value a while; the weights must go now
    gc.collect()
    empty_caches()  # the next model's place depends on what the device has free


def _failed(message: str) -> BaseException:
    """A case's failure, to be raised ``from None``: what led to it would be printed before the message."""
    return pytest.fail.Exception(message, pytrace=False)


def _recorded_prompt(config: pytest.Config) -> str | None:
    """The prompt of what ``--against`` names: under another one everything would differ."""
    from phasebench.judge.baselines import read_record
    from phasebench.session import DATASETS

    against, folders = config.option.against, config.stash[FOLDERS]
    if not against:
        return None
    paths = (folders.find(f"{against}/{name}/inter.json") for name in config.stash[DATASETS])
    path = next((path for path in paths if path), None)
    return read_record(path)["provenance"].get("prompt") if path else None


def _share_cores(config: pytest.Config) -> None:
    """Under pytest-xdist workers that have a model share the cores: together they would fight for all."""
    import torch

    from phasebench.session import MODELS

    threads = config.stash.setdefault(THREADS, torch.get_num_threads())
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    workers = min(workers, len(config.stash[MODELS]))
    if workers > 1:
        torch.set_num_threads(max(1, threads // workers))


@pytest.fixture(scope="session")
def measurement(request: pytest.FixtureRequest, loaded: Loaded) -> Measurement:
    """The model measured on one dataset: every image once."""
    from phasebench.measure.run import measure
    from phasebench.measure.shards import Elsewhere
    from phasebench.progress import Progress
    from phasebench.session import selection

    config, name = request.config, request.param
    samples = selection(config, name).samples
    progress = Progress(config, f"{loaded.name} on {name}")
    progress.say("self-test")
    try:
        return measure(loaded, name, samples, settings_of(config), progress)
    except InputError as error:
        raise _failed(f"{loaded.name} on {name}: {error}") from None
    except Elsewhere:
        pytest.skip("the first process reports")
    except KeyboardInterrupt:
        config.stash[KEPT] = progress.interrupted(settings_of(config))
        raise


@pytest.fixture(autouse=True)
def _place(request: pytest.FixtureRequest) -> None:
    """Remember on the item which model and dataset it is about; hand on the measurement once."""
    if not {"loaded", "measurement"} <= {*request.fixturenames}:
        return
    measured = request.getfixturevalue("measurement")
    params, against = request.node.callspec.params, request.config.option.against
    place = request.node.stash[PLACE] = f"{params['loaded']}/{params['measurement']}"
    request.node.stash[BASELINE] = f"{against or params['loaded']}/{params['measurement']}"
    told = request.config.stash.setdefault(TOLD, set())
    if place not in told:
        from phasebench.report.results import measurement_entry
        from phasebench.session import selection

        told.add(place)
        skipped = selection(request.config, params["measurement"]).skipped
        attach(request.node, measurement_entry(measured, [skip.as_dict() for skip in skipped]))
    if request.node.path.parent != packaged("cases"):
        attach(request.node, {"kind": "own", "case": request.node.name})


@pytest.fixture
def baseline(request: pytest.FixtureRequest, snapshot: Any) -> Any:
    """syrupy's assertion over ``baselines/<model>/<dataset>/``: ``baseline(name="inter") == record``."""
    from phasebench.judge.baselines import BaselineExtension
    from phasebench.session import REFERENCE

    return snapshot.use_extension(partial(BaselineExtension, request.config.stash[REFERENCE]))


@pytest.fixture
def judge(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str | Finding], None]:
    """Judge a finding, by id or itself, and hold the verdict against the recorded one.

    Without a recorded verdict the case fails unless the claim holds.
    """
    from phasebench.judge.finding import Evidence, Outcome
    from phasebench.judge.findings import FINDINGS
    from phasebench.session import OWN_FINDINGS

    known = FINDINGS | request.config.stash[OWN_FINDINGS]

    def judged(claim: str | Finding) -> None:
        _refuse_broken(request, measurement)
        if isinstance(claim, str) and claim not in known:
            pytest.fail(f"judge: there is no finding {claim!r}; there are {', '.join(known)}", pytrace=False)
        finding = known[claim] if isinstance(claim, str) else claim
        verdict = finding.verdict(Evidence(measurement.curves, measurement.controls))
        name = f"verdicts/{finding.id}"
        record = {
            "finding": finding.id,
            **verdict.as_dict(),
            "provenance": dict(measurement.curves.provenance),
        }
        before = _recorded(request, name)
        told = {**_plain(finding, verdict), "id": finding.id, "recorded": before, **verdict.as_dict()}
        entry = attach(request.node, {**told, "kind": "finding"})
        if verdict.outcome is Outcome.UNDECIDED and before not in (None, "", str(verdict.outcome)):
            _pass_over_fewer(request, name, record)
        _keep_more(request, name, record)
        why = ""
        if before is None and not _updating(request):
            if verdict.outcome is not Outcome.HOLDS:
                why = f"{_place_of(request)} {finding.id} {verdict.outcome}: {verdict.detail}"
            if request.config.option.strict_baselines:
                why = _unrecorded(request, name)
        elif baseline(name=name) != record:
            why = _told(request, finding.id, baseline)
        entry["passed"] = not why
        if why:
            pytest.fail(why, pytrace=False)

    return judged


@pytest.fixture
def check_drift(
    request: pytest.FixtureRequest, measurement: Measurement, baseline: Any
) -> Callable[[str], None]:
    """Compare a curve with its baseline; where none is recorded skipped, and counted as such, or failed."""
    from phasebench.judge.record import record

    def checked(curve: str) -> None:
        _refuse_broken(request, measurement)
        if curve not in CURVES:
            told = f"check_drift: there is no curve {curve!r}; there are {', '.join(CURVES)}"
            pytest.fail(told, pytrace=False)
        measured = record(measurement.curves, curve)
        if _found(request, curve) is None and not _updating(request):
            _pass_over(request, _unrecorded(request, curve), curve)
        _keep_more(request, curve, measured)
        found = _difference(request, curve, measured)
        agrees = baseline(name=curve) == measured
        why = "" if agrees else _cause(request, measurement)
        updated = agrees and bool(found["told"])
        attach(request.node, {**found, "updated": updated, "cause": why})["passed"] = agrees
        if not agrees:
            told = _told(request, curve, baseline)
            pytest.fail(f"{told}\nlikely cause: {why}" if why else told, pytrace=False)

    return checked


def _refuse_broken(request: pytest.FixtureRequest, measurement: Measurement) -> None:
    """Fail where images gave NaN or infinity: nothing is judged on the rest of them, nothing recorded."""
    if measurement.broken:
        image, where = next(iter(measurement.broken.items()))
        count = f"{len(measurement.broken)} of {len(measurement.curves.items)} images"
        pytest.fail(f"{_place_of(request)}: {count} are broken; the first, {image}: {where}", pytrace=False)


def _plain(finding: Finding, verdict: Verdict) -> dict[str, Any]:
    """What a user's verdict has beside the numbers, which goes into files."""
    try:
        json.dumps(dict(verdict.data), allow_nan=False)
    except (TypeError, ValueError) as error:
        pytest.fail(
            f"finding {finding.id}: its verdict's data cannot be written as JSON: {error}", pytrace=False
        )
    return dict(verdict.data)


def _pass_over(request: pytest.FixtureRequest, told: str, curve: str = "") -> None:
    """Skip what cannot be compared, and count it; under ``--strict-baselines`` fail it."""
    if request.config.option.strict_baselines:
        if curve:  # a finding has attached itself
            attach(request.node, {**_incomparable(curve, told), "updated": False, "cause": ""})
        pytest.fail(told, pytrace=False)
    attach(request.node, {"kind": UNCOMPARED})
    pytest.skip(told)


def _pass_over_fewer(request: pytest.FixtureRequest, name: str, measured: dict[str, Any]) -> None:
    """Skip a verdict that fewer images than recorded leave undecided: nothing is known to have changed."""
    from phasebench.judge.baselines import fewer, read_record

    path = _found(request, name)
    if path is not None and (told := fewer(read_record(path), measured)):
        _pass_over(request, f"{_baseline_of(request)}/{name}: undecided, {told}")


def _keep_more(request: pytest.FixtureRequest, name: str, measured: dict[str, Any]) -> None:
    """Let no record of fewer images take the place of one of more: others beside it would stay."""
    from phasebench.judge.baselines import fewer, read_record

    path = _found(request, name)
    if path is None or not request.config.option.update_snapshots:
        return
    try:
        recorded = read_record(path)
        told = fewer(recorded, measured)
    except (ValueError, TypeError, AttributeError):
        return  # no record: it is written anew
    if told and not _agree(request, recorded, measured):
        own = path.is_relative_to(request.config.stash[FOLDERS].own)
        way = f"remove {path.parent}" if own else "name the model anew (--model NAME=...)"
        why = f"{_place_of(request)} {name} is another, but {told}: raise --images, or {way}"
        pytest.fail(why, pytrace=False)


def _agree(request: pytest.FixtureRequest, recorded: dict[str, Any], measured: dict[str, Any]) -> bool:
    """Whether two records agree; where they cannot be compared, as without a tolerance, they do not."""
    from phasebench.session import REFERENCE

    try:
        return request.config.stash[REFERENCE].agree(recorded, measured)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _unrecorded(request: pytest.FixtureRequest, name: str) -> str:
    return f"no baseline for {_baseline_of(request)}/{name}; write it with --snapshot-update"


def _difference(request: pytest.FixtureRequest, curve: str, measured: dict[str, Any]) -> dict[str, Any]:
    """The entry of a curve: how it differs from what is recorded before anything is written."""
    from phasebench.judge.baselines import fewer, read_record
    from phasebench.judge.drift import entry
    from phasebench.judge.record import columns
    from phasebench.judge.statistics import FEWEST
    from phasebench.session import REFERENCE

    path = _found(request, curve)
    if path is None:
        return _incomparable(curve, "first recorded")
    try:
        recorded, reference = read_record(path), request.config.stash[REFERENCE]
        difference = reference.compare(recorded, measured)
        found = {"kind": "drift", **entry(difference), "baseline": columns(recorded)}
        if request.config.option.update_snapshots and (told := fewer(recorded, measured)):
            found["left"] = told
        if why := reference.renewed(recorded, measured):
            found["told"] = found["told"] or [f"{curve} {why}"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _incomparable(curve, str(error))
    if not difference.decidable and not _updating(request):
        few = f"{_baseline_of(request)}/{curve}: fewer than {FEWEST} items cannot be compared with others"
        _pass_over(request, f"{few}; raise --images", curve)
    return found


def _incomparable(curve: str, why: str) -> dict[str, Any]:
    """The entry of a curve without a difference."""
    unknown = dict.fromkeys(("layer", "excess", "recorded", "measured", "low", "high", "effect"))
    return {"kind": "drift", "curve": curve, **unknown, "shared": 0, "images": 0, "told": [why]}


def _cause(request: pytest.FixtureRequest, measurement: Measurement) -> str:
    """Read off all curves of the place, once."""
    from phasebench.judge.cause import of_place
    from phasebench.session import REFERENCE

    causes, place = request.config.stash.setdefault(CAUSES, {}), _baseline_of(request)
    if place not in causes:
        causes[place] = of_place(request.config.stash[REFERENCE], place, measurement.curves)
    return causes[place]


def _recorded(request: pytest.FixtureRequest, name: str) -> str | None:
    """The recorded verdict, '' for an unreadable file, None where nothing is recorded."""
    from phasebench.judge.baselines import read_record

    path = _found(request, name)
    if path is None:
        return None
    try:
        return str(read_record(path).get("verdict", ""))
    except ValueError:
        return ""


def _found(request: pytest.FixtureRequest, name: str) -> Path | None:
    """The file of a curve or verdict that the item is held against."""
    found: Path | None = request.config.stash[FOLDERS].find(f"{_baseline_of(request)}/{name}.json")
    return found


def _place_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.stash[PLACE])


def _baseline_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.stash[BASELINE])


def _updating(request: pytest.FixtureRequest) -> bool:
    option = request.config.option
    return bool(option.update_snapshots or option.update_new_snapshots_only)


def _told(request: pytest.FixtureRequest, name: str, baseline: Any) -> str:
    lines = baseline.get_assert_diff()
    against = request.config.option.against
    place = f"{_place_of(request)} against {against}" if against else _place_of(request)
    return "\n".join([f"{place} {name}: {lines[0]}", *lines[1:]])
