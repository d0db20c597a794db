"""``python -m tests.perf [SECTION ...]`` writes ``docs/performance.md``, or prints some sections."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from phasebench.files import cache_folder
from tests.perf import growth, job, memory, processes, screening, startup
from tests.perf.routes import routes
from tests.perf.timing import added_time_ratio, interleaved, milliseconds, ratio, sums
from tests.perf.workloads import workload_makers
from tests.support.sections import main

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "performance.md"
RIVALS = ROOT / ".venv-rivals" / "bin" / "python"
TEMPLATE = ROOT / "tests" / "perf" / "performance.md"
ROUNDS = int(os.environ.get("ROUNDS", "9"))


def cpuinfo() -> str:
    """Linux's description of the processor; empty on other systems."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def processor() -> str:
    """The processor's name, as the system gives it."""
    names = [
        line.partition(":")[2].strip() for line in cpuinfo().splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def instructions() -> str:
    """The vector instructions that torch uses; VNNI makes the 8-bit products several times faster."""
    vnni = "with VNNI" if "vnni" in cpuinfo() else "without VNNI"
    return f"{torch.backends.cpu.get_cpu_capability()} {vnni}"


def machine() -> str:
    """Date, processor and versions of this run."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.datetime.now(tz=datetime.timezone.utc).date()}, {processor()}, {instructions()}, "
        f"{os.cpu_count()} cores, torch {torch.__version__.partition('+')[0]}, "
        f"transformers {transformers.__version__}, float32; load of the machine at that moment: {load:.1f}"
    )


def main_table(rounds: int = ROUNDS) -> str:
    """The table of the bounds, on the llava and on the bundled models."""
    lines = [
        "| model | threads | plain | curves / plain | with lens / (plain + bare) | with lens / plain "
        "| naive adds / curves add | naive adds / all adds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for make_workload in workload_makers(cache_folder()):
        work = make_workload()
        timed_routes = routes(work)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            times = interleaved(timed_routes, rounds)
            cells = (
                milliseconds(times["plain"]),
                ratio(times["curves"], times["plain"]),
                ratio(times["whole"], sums(times["plain"], times["bare"])),
                ratio(times["whole"], times["plain"]),
                added_time_ratio(times, "naive", "curves"),
                added_time_ratio(times, "naive whole", "whole"),
            )
            lines.append(f"| {work.name} | {threads} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def rivals() -> str:
    """The table of nnsight and TransformerLens, where their environment exists."""
    if not RIVALS.exists():
        return "Not run: `make perf-rivals` makes the environment that has them."
    lines = ["| route | threads | time | to plain | numbers differ by at most |", "|---|---|---|---|---|"]
    for threads in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        command = [str(RIVALS), "-m", "tests.perf.rivals", threads, str(ROUNDS)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"Could not be run: {done.stderr.strip().splitlines()[-1]}"
        results = json.loads(done.stdout.strip().splitlines()[-1])
        for name, seconds in results["times"].items():
            error = f"{results['errors'][name]:.0e}" if name in results["errors"] else ""
            cells = milliseconds(seconds), ratio(seconds, results["times"]["plain"]), error
            lines.append(f"| {name} | {threads} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def growth_section() -> str:
    """How cost grows, on one thread."""
    torch.set_num_threads(1)
    return growth.section()


SECTIONS: dict[str, Callable[[], str]] = {
    "machine": machine,
    "bounds": main_table,
    "rivals": rivals,
    "screening": lambda: screening.section(cache_folder()),
    "memory": memory.section,
    "processes": processes.section,
    "job": job.section,
    "startup": startup.section,
    "growth": growth_section,
}

if __name__ == "__main__":
    main("tests.perf", SECTIONS, TEMPLATE, PATH)
