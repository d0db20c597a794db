"""Peak memory of a run, each in a process of its own: ``python -m tests.perf.memory WHAT [IMAGES]``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

MIB = 1024


def peak(what: str, images: int = 1) -> float:
    """MiB at most resident in a process that does ``what`` (see ``main``)."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "tests.perf.memory", what, str(images)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(what: str, images: int) -> None:
    """Do it: ``WORKLOAD plain`` or ``WORKLOAD whole`` passes over one batch, or ``measure`` a tiny model."""
    from phasebench.files import cache_folder

    name, _, route = what.partition(" ")
    if name == "measure":
        _measure(images)
    else:
        from phasebench.measurement.passes import plain_pass, probed_pass
        from tests.perf.workloads import Size, bundled, llava

        work = llava(Size()) if name == "llava" else bundled(name, cache_folder())
        for _ in range(images):
            (plain_pass if route == "plain" else probed_pass)(work.anatomy, work.inputs)
    print(_highest())


def _highest() -> float:
    """MiB at most resident; getrusage would give the parent's where that is larger."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    (line,) = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / MIB


def _measure(images: int) -> None:
    """A whole measurement of ``tiny-llava`` on so many scenes."""
    from dataclasses import replace
    from itertools import cycle

    from phasebench.files import cache_folder
    from phasebench.measurement.measure import measure
    from phasebench.settings import Settings
    from tests.conftest import load_tiny
    from tests.perf.workloads import bundled_scenes

    cache = cache_folder()
    scenes = cycle(bundled_scenes(cache))
    drawn = [replace(scene, id=str(number)) for number, scene in zip(range(images), scenes, strict=False)]
    measure(load_tiny("tiny-llava", cache), "scenes", drawn, Settings(), lambda *_: None)


def section() -> str:
    """The tables, for ``docs/performance.md``."""
    lines = ["| model | plain forward | with the probe | ratio |", "|---|---|---|---|"]
    for name in ("llava", "smol-llava", "smol-instructblip"):
        plain, whole = peak(f"{name} plain", 3), peak(f"{name} whole", 3)
        lines.append(f"| {name} | {plain:.0f} MiB | {whole:.0f} MiB | {whole / plain:.2f} |")
    few, many = peak("measure", 50), peak("measure", 400)
    told = f"A whole measurement of tiny-llava: {few:.0f} MiB with 50 images, {many:.0f} MiB with 400"
    return "\n".join([*lines, "", f"{told} ({(many - few) / 350:.3f} MiB an image)."])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
