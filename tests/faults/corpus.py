"""The whole corpus: every fault and every harmless variation, by two processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache as memoised
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from phasebench.files import cache_folder
from tests.faults import table
from tests.faults.benign import MODELS, VariationResult, harmless_variations, precisions
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.harness import SoundModel, apply_fault, scenes
from tests.faults.kinds import BLIP, LLAVA
from tests.faults.outcome import Outcome
from tests.faults.patient import Patient

TEMPLATE = Path(__file__).parent / "faults.md"
IMAGES = 50
PROCESSES = 2
MODEL_BY_FAMILY = {LLAVA: "smol-llava", BLIP: "smol-instructblip"}
VARIATIONS = {"benign": harmless_variations, "precision": precisions}
Job = tuple[str, ...]
Outcomes = dict[Job, list[dict[str, Any]]]


@memoised
def _sound_model_and_patient(family: str, data: str) -> tuple[SoundModel, Patient]:
    cache = cache_folder()
    sound_model = SoundModel.measure(MODEL_BY_FAMILY[family], cache, scenes(cache, IMAGES, dataset=data))
    return sound_model, sound_model.patient()


def _silence() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()


def _run_job(job: Job) -> list[dict[str, Any]]:
    """Run one fault at one severity, or all variations of one model, in a worker process."""
    if job[0] in VARIATIONS:
        return [result.as_dict() for result in VARIATIONS[job[0]](cache_folder(), job[1])]
    fault = _fault(job)
    sound_model, patient = _sound_model_and_patient(fault.family, fault.data)
    return [apply_fault(sound_model, fault, int(job[3]), patient).as_dict()]


def _fault(job: Job) -> Fault:
    return next(fault for fault in FAULTS if (fault.family, fault.name) == job[1:3])


def _outcome(job: Job, row: dict[str, Any]) -> Outcome:
    """A kept outcome, with the cause that the present rule names and the present catalogue expects."""
    return Outcome(**row).judged_again(_fault(job).expected_parts)


def jobs() -> Iterator[Job]:
    """All jobs: severe faults first, then every variation of every model, the mildest faults last."""
    yield from (job for level in "21" for job in faults() if job[3] == level)
    yield from ((varied, model) for varied in VARIATIONS for model in MODELS)
    yield from (job for job in faults() if job[3] == "0")


def faults() -> Iterator[Job]:
    """A job for every fault at every severity."""
    for fault in FAULTS:
        for severity in range(len(fault.severities)):
            yield "fault", fault.family, fault.name, str(severity)


def run(all_jobs: Iterable[Job], keep: Path | None) -> Outcomes:
    """The outcomes of all jobs; those in the file ``keep`` are not run, and new ones are appended to it."""
    lines = keep.read_text(encoding="utf-8").splitlines() if keep and keep.is_file() else []
    outcomes: Outcomes = {tuple(job): rows for job, rows in map(json.loads, lines)}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _silence) as pool:
        futures = {pool.submit(_run_job, job): job for job in all_jobs if job not in outcomes}
        for number, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            error = future.exception()
            status = f"failed: {error!r}" if error else "done"
            sys.stderr.write(f"{number} of {len(futures)}, {', '.join(job)}: {status}\n")
            if not error:
                outcomes[job] = future.result()
                _append(keep, job, outcomes[job])
    return outcomes


def _append(keep: Path | None, job: Job, rows: list[dict[str, Any]]) -> None:
    if keep:
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps([job, rows]) + "\n")


def document(rows_by_job: Outcomes) -> str:
    """The text of docs/faults.md; the causes are derived again from the differences that were kept."""
    outcomes = [_outcome(job, rows_by_job[job][0]) for job in faults() if job in rows_by_job]
    variation_jobs = [job for job in jobs() if job[0] in VARIATIONS]
    variations = [VariationResult(**row) for job in variation_jobs for row in rows_by_job.get(job, ())]
    return TEMPLATE.read_text(encoding="utf-8").format(
        kinds=len(FAULTS),
        count=len(outcomes),
        of=sum(1 for _ in faults()),
        shares=table.shares(outcomes),
        missed=table.missed(outcomes),
        causes=table.causes(outcomes),
        variations=len(variations),
        alarms=sum(result.alarm for result in variations),
        benign=table.variations(variations),
        faults=table.faults(outcomes),
    )
