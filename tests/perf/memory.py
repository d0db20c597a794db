"""Peak memory of a run in its own process: ``python -m tests.perf.memory JOB IMAGES``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

MIB = 1024


def peak_memory(job: str, images: int = 1) -> float:
    """Most MiB resident in a process that does ``job`` (see ``main``)."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "tests.perf.memory", job, str(images)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(job: str, images: int) -> None:
    """Do the job and print the peak memory.

    Args:
        job: ``WORKLOAD plain`` or ``WORKLOAD whole`` for passes over one batch; ``measure`` for the whole
            measurement of a tiny model.
        images: passes, or images of the measurement.
    """
    from phasebench.files import cache_folder

    name, _, route = job.partition(" ")
    if name == "measure":
        _measure(images)
    else:
        from phasebench.measurement.passes import plain_pass, probed_pass
        from tests.perf.workloads import Size, bundled, llava

        work = llava(Size()) if name == "llava" else bundled(name, cache_folder())
        for _ in range(images):
            (plain_pass if route == "plain" else probed_pass)(work.anatomy, work.inputs)
    print(_own_peak())


def _own_peak() -> float:
    """Most MiB resident in this process; getrusage would give the parent's where that is larger."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    (line,) = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / MIB


def _measure(images: int) -> None:
    """Measure ``tiny-llava`` on so many scenes."""
    from dataclasses import replace
    from itertools import cycle

    from phasebench.files import cache_folder
    from phasebench.measurement.measure import measure
    from phasebench.settings import Settings
    from tests.perf.workloads import bundled_scenes
    from tests.support.checkpoints import load_tiny

    cache = cache_folder()
    scenes = cycle(bundled_scenes(cache))
    samples = [replace(scene, id=str(number)) for number, scene in zip(range(images), scenes, strict=False)]
    measure(load_tiny("tiny-llava", cache), "scenes", samples, Settings(), lambda *_: None)


def section() -> str:
    """The table and the sentence for ``docs/performance.md``."""
    lines = ["| model | plain forward | with the probe | ratio |", "|---|---|---|---|"]
    for name in ("llava", "smol-llava", "smol-instructblip"):
        plain, whole = peak_memory(f"{name} plain", 3), peak_memory(f"{name} whole", 3)
        lines.append(f"| {name} | {plain:.0f} MiB | {whole:.0f} MiB | {whole / plain:.2f} |")
    few, many = peak_memory("measure", 50), peak_memory("measure", 400)
    sentence = f"A whole measurement of tiny-llava: {few:.0f} MiB with 50 images, {many:.0f} MiB with 400"
    return "\n".join([*lines, "", f"{sentence} ({(many - few) / 350:.3f} MiB per image)."])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
