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
from tests.faults.benign import MODELS, Harmless, harmless, precisions
from tests.faults.catalogue import FAULTS
from tests.faults.harness import Bed, Outcome, inflict, scenes
from tests.faults.kinds import BLIP, LLAVA
from tests.faults.patient import Patient

TEXT = Path(__file__).parent / "faults.md"
IMAGES = 50
PROCESSES = 2
UNDER_TEST = {LLAVA: "smol-llava", BLIP: "smol-instructblip"}
VARIED = {"benign": harmless, "precision": precisions}
Job = tuple[str, ...]
Kept = dict[Job, list[dict[str, Any]]]


@memoised
def _bed(family: str, data: str) -> tuple[Bed, Patient]:
    cache = cache_folder()
    bed = Bed.of(UNDER_TEST[family], cache, scenes(cache, IMAGES, dataset=data))
    return bed, bed.patient()


def _quiet() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()


def _do(job: Job) -> list[dict[str, Any]]:
    """One fault at one severity, or all variations of one model: in a process of its own."""
    if job[0] in VARIED:
        return [one.as_dict() for one in VARIED[job[0]](cache_folder(), job[1])]
    fault = next(one for one in FAULTS if (one.family, one.name) == job[1:3])
    bed, patient = _bed(fault.family, fault.data)
    return [inflict(bed, fault, int(job[3]), patient).as_dict()]


def jobs() -> Iterator[Job]:
    """The severest first, then every variation of every model, the mildest last."""
    yield from (job for level in "21" for job in faults() if job[3] == level)
    yield from ((varied, model) for varied in VARIED for model in MODELS)
    yield from (job for job in faults() if job[3] == "0")


def faults() -> Iterator[Job]:
    """Every kind at every severity."""
    for fault in FAULTS:
        for severity in range(len(fault.severities)):
            yield "fault", fault.family, fault.name, str(severity)


def run(todo: Iterable[Job], keep: Path | None) -> Kept:
    """Everything that ``keep`` does not have yet; what is done is appended to it."""
    lines = keep.read_text(encoding="utf-8").splitlines() if keep and keep.is_file() else []
    kept: Kept = {tuple(job): found for job, found in map(json.loads, lines)}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _quiet) as pool:
        futures = {pool.submit(_do, job): job for job in todo if job not in kept}
        for number, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            failed = future.exception()
            told = f"failed: {failed!r}" if failed else "done"
            sys.stderr.write(f"{number} of {len(futures)}, {', '.join(job)}: {told}\n")
            if not failed:
                kept[job] = future.result()
                _append(keep, job, kept[job])
    return kept


def _append(keep: Path | None, job: Job, found: list[dict[str, Any]]) -> None:
    if keep:
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps([job, found]) + "\n")


def document(kept: Kept) -> str:
    """The page."""
    outcomes = [Outcome(**kept[job][0]) for job in faults() if job in kept]
    benign = [Harmless(**one) for job in jobs() if job[0] in VARIED for one in kept.get(job, ())]
    return TEXT.read_text(encoding="utf-8").format(
        kinds=len(FAULTS),
        count=len(outcomes),
        of=sum(1 for _ in faults()),
        shares=table.shares(outcomes),
        missed=table.missed(outcomes),
        causes=table.causes(outcomes),
        variations=len(benign),
        alarms=sum(one.alarm for one in benign),
        benign=table.benign(benign),
        faults=table.faults(outcomes),
    )
