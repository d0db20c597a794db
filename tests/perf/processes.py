"""Two processes against one: ``python -m tests.perf.processes`` starts both with torchrun.

In each round the first process measures all images while the second waits, then both share the same images.
Each process has one thread.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor, distributed

from phasebench.files import cache_folder
from phasebench.measurement import shards
from phasebench.measurement.batches import TIMED_BATCHES, PassRunner, rows_of_batches
from phasebench.measurement.row_store import Store
from tests.perf.workloads import Size, Workload, bundled_scenes, llava

IMAGES, ROUNDS, COUNT = 12, 3, 2


class EndlessInputs:
    """Stands for a loaded model: its inputs have one size for every picture, and no two are the same."""

    def __init__(self, work: Workload) -> None:
        self._work, self._count = work, 0

    def inputs(self, _: object) -> dict[str, Tensor]:
        """Inputs that no store has a row of."""
        self._count += 1
        return {**self._work.inputs, "pixel_values": self._work.inputs["pixel_values"] + self._count}


def llava_passes() -> PassRunner:
    """The passes of the benchmark's llava, with a store that keeps nothing; no plain pass is timed."""
    work = llava(Size())
    return PassRunner(
        EndlessInputs(work),  # type: ignore[arg-type]
        work.anatomy,
        Store(None, {}),
        timed_batches=TIMED_BATCHES,
    )


def speedups(rounds: int = ROUNDS) -> list[float]:
    """For each round, the seconds of one process divided by those of all; called in every process."""
    batches = [[scene] for scene in bundled_scenes(cache_folder())[:IMAGES]]
    passes, quotients = llava_passes(), []
    passes.rows(batches[0])
    shards.meet("llava")  # joins the group
    for _ in range(rounds):
        distributed.barrier()
        _forget_rows(passes)
        start = time.perf_counter()
        if os.environ["RANK"] == "0":
            list(rows_of_batches(passes, batches, lambda *_: None))
        seconds_of_one = time.perf_counter() - start
        distributed.barrier()
        _forget_rows(passes, carry=True)
        start = time.perf_counter()
        with suppress(shards.ShareMeasured):
            shards.share(passes, batches, lambda *_: None, "llava")
        quotients.append(seconds_of_one / (time.perf_counter() - start))
    return quotients


def _forget_rows(passes: PassRunner, *, carry: bool = False) -> None:
    """Give the passes an empty store, so that they measure every image again."""
    passes.store = Store(None, {}, carry=carry)
    passes.row_names = {}


def section() -> str:
    """The sentence for ``docs/performance.md``."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command: Sequence[str] = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(COUNT)),
        *("-m", "tests.perf.processes", "share"),
    ]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    quotients = [float(word) for word in done.stdout.split()]
    return (
        f"{COUNT} processes, one thread each, measure {IMAGES} images with the llava "
        f"{statistics.median(quotients):.2f} times as fast as one ({min(quotients):.2f} to "
        f"{max(quotients):.2f} in {len(quotients)} rounds), gathering of the rows included."
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measured_speedups = speedups()
        if os.environ["RANK"] == "0":
            print(*measured_speedups)
    else:
        print(section())
