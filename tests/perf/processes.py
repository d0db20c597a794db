"""Two processes against one, in one run: ``python -m tests.perf.processes`` starts them with torchrun.

The first process measures alone while the other waits, then both share the same images; one thread each.
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
from phasebench.measurement.batches import PLAIN, PassRunner, rows_of
from phasebench.measurement.row_store import Store
from tests.perf.workloads import Size, Workload, bundled_scenes, llava

IMAGES, ROUNDS, COUNT = 12, 3, 2


class Endless:
    """In a loaded model's place: inputs of the same size for every picture, never the same ones twice."""

    def __init__(self, work: Workload) -> None:
        self._work, self._given = work, 0

    def inputs(self, _: object) -> dict[str, Tensor]:
        """A picture that no store has."""
        self._given += 1
        return {**self._work.inputs, "pixel_values": self._work.inputs["pixel_values"] + self._given}


def llava_passes() -> PassRunner:
    """The benchmark llava's passes, which keep nothing but what they carry to the first process."""
    work = llava(Size())
    return PassRunner(Endless(work), work.anatomy, Store(None, {}), _plain=PLAIN)  # type: ignore[arg-type]


def shared(rounds: int = ROUNDS) -> list[float]:
    """In every process: the seconds of one alone, in those of all together, one quotient a round."""
    every = [[scene] for scene in bundled_scenes(cache_folder())[:IMAGES]]
    own, quotients = llava_passes(), []
    own.rows(every[0])
    shards.agreed(1, "llava")  # joins the group
    for _ in range(rounds):
        distributed.barrier()
        own.store = Store(None, {})
        began = time.perf_counter()
        if os.environ["RANK"] == "0":
            list(rows_of(own, every, lambda *_: None))
        alone = time.perf_counter() - began
        distributed.barrier()
        own.store = Store(None, {}, carry=True)  # what the last round brought is not measured again
        began = time.perf_counter()
        with suppress(shards.Elsewhere):
            shards.share(own, every, lambda *_: None, "llava")
        quotients.append(alone / (time.perf_counter() - began))
    return quotients


def section() -> str:
    """The sentence, for ``docs/performance.md``."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command: Sequence[str] = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(COUNT)),
        *("-m", "tests.perf.processes", "share"),
    ]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    found = [float(one) for one in done.stdout.split()]
    return (
        f"{COUNT} processes, one thread each, measure {IMAGES} images with the llava "
        f"{statistics.median(found):.2f} times as fast as one ({min(found):.2f} to {max(found):.2f} in "
        f"{len(found)} rounds), rows brought together included."
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        quotients = shared()
        if os.environ["RANK"] == "0":
            print(*quotients)
    else:
        print(section())
