"""What was compared with what, and what was written, in words: the same text for every output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from phasebench.files import utf8
from phasebench.report.entries import BaselineEntry, MeasurementEntry
from phasebench.report.results import Results, grouped


def two_sides(results: Results, run_id: str) -> Iterator[tuple[str, str]]:
    """Rows (label, text): the measured prompt, then each baseline with its checkpoint, prompt and folder."""
    measured = results.measurement(run_id)
    if measured is not None:
        yield "prompt", repr(measured.provenance["prompt"])
    groups = results.baselines(run_id)
    for entries in groups:
        only = f" ({counted(entries)})" if len(groups) > 1 else ""
        yield "baseline", f"{_recorded(entries[0])}{only}"


def _recorded(entry: BaselineEntry) -> str:
    """Name, checkpoint, folder and prompt of a baseline; what is the same on both sides is not repeated."""
    folder = f"in {shown(entry.baseline_folder)}"
    if not entry.baseline_checkpoint:
        return f"{entry.baseline}, {folder}, cannot be read"
    return "; ".join(filter(None, (_checkpoint_and_prompt(entry, folder), entry.definitions)))


def _checkpoint_and_prompt(entry: BaselineEntry, folder: str) -> str:
    same_checkpoint = entry.checkpoint == entry.baseline_checkpoint
    checkpoint = "the same checkpoint" if same_checkpoint else f"checkpoint {entry.baseline_checkpoint}"
    if entry.prompt != entry.baseline_prompt:
        differ = f"the prompts differ, recorded: {entry.baseline_prompt!r}"
        return f"{entry.baseline}, {checkpoint}, {folder}; {differ}"
    same_prompt = " and prompt" if same_checkpoint else ", the same prompt"
    return f"{entry.baseline}, {checkpoint}{same_prompt}, {folder}"


def written(results: Results, run_id: str, *, full: bool) -> Iterator[str]:
    """Lines on the baselines that were written, and on those that could not be; ``full`` adds their names."""
    entries = results.entries(run_id, BaselineEntry)
    for group in grouped([entry for entry in entries if entry.written], ("written",)):
        yield f"{counted(group)} written to {shown(group[0].written)}{_names(group) if full else ''}"
    for group in grouped([entry for entry in entries if entry.unwritten], ("unwritten", "error")):
        folder, error = shown(group[0].unwritten), group[0].error
        yield f"{counted(group)} not written to {folder} ({error}); what it has is unchanged{_names(group)}"


def _names(entries: Sequence[BaselineEntry]) -> str:
    return f": {', '.join(entry.name for entry in entries)}"


def counted(entries: Sequence[BaselineEntry]) -> str:
    """``18 curves and 6 verdicts``."""
    verdicts = sum("/" in entry.name for entry in entries)
    numbers = ((len(entries) - verdicts, "curve"), (verdicts, "verdict"))
    return " and ".join(f"{number} {word}{'s' if number > 1 else ''}" for number, word in numbers if number)


def shown(folder: str) -> str:
    """The folder relative to the current one if it is in it, else as it is."""
    path = Path(folder)
    here = Path.cwd()
    return utf8(str(path.relative_to(here)) if path.is_relative_to(here) else folder).decode()


def one_checkpoint_two_prompts(measurements: dict[str, MeasurementEntry]) -> Iterator[str]:
    """A line for each two names of one checkpoint that were measured with different prompts."""
    prompts: dict[str, dict[str, str]] = {}
    for entry in measurements.values():
        source = entry.provenance
        prompts.setdefault(source["checkpoint"], {}).setdefault(source["prompt"], source["model"])
    for checkpoint, by_prompt in prompts.items():
        if checkpoint and len(by_prompt) > 1:
            sides = "; ".join(f"{model}: {prompt!r}" for prompt, model in by_prompt.items())
            yield f"one checkpoint ({checkpoint}), but the prompts differ: {sides}"
