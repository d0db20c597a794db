"""The same routes on an accelerator: ``python -m tests.perf.gpu [cuda | cpu]`` prints a table.

Times are CUDA events around a route, in bf16, over batch sizes; beside them the operations of each route and
the share of the device's own best matrix product that they reach (``phasebench.models.plan.speed``), or of
its memory's speed where reading the weights takes longer than multiplying.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from phasebench.models.devices import Placement
from phasebench.models.plan import plan, speed
from tests.perf.routes import routes
from tests.perf.workloads import Size, Workload, llava

BATCHES = (1, 2, 4, 8, 16)
LARGE = Size(layers=16, width=2048)
SMALL = Size(layers=2, width=128, visual=16, text=12, vocabulary=500)
COPIED = 1 << 26
"""Elements of the copy that takes the memory's speed."""


def seconds(route: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of a route; between two events where the device has them."""
    route()
    taken = []
    for _ in range(rounds):
        if device.type != "cuda":
            began = time.perf_counter()
            route()
            taken.append(time.perf_counter() - began)
            continue
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        route()
        end.record()
        torch.cuda.synchronize(device)
        taken.append(start.elapsed_time(end) / 1000)
    return statistics.median(taken)


def bandwidth(device: torch.device, rounds: int = 5) -> float:
    """Bytes a second of a copy: read once, written once."""
    source = torch.zeros(COPIED if device.type == "cuda" else COPIED >> 4, device=device)
    target = torch.empty_like(source)
    return (
        2.0 * source.numel() * source.element_size() / seconds(lambda: target.copy_(source), device, rounds)
    )


def operations(work: Workload) -> dict[str, float]:
    """Of each route for the whole batch, as ``--plan`` counts them."""
    found = plan(work.anatomy.model, None, Placement(work.inputs["input_ids"].device, torch.bfloat16))
    batch = len(work.inputs["input_ids"])
    return {
        "plain": batch * found.plain,
        "curves": batch * (found.plain + found.rows),
        "whole": batch * (found.plain + found.rows + found.lens),
        "bare": batch * found.lens,
    }


def lines(size: Size, device: torch.device, dtype: torch.dtype, rounds: int) -> list[str]:
    """One line a route of one batch size."""
    work = llava(size, str(device), dtype)
    known, counted = routes(work), operations(work)
    weights = sum(one.numel() * one.element_size() for one in work.anatomy.model.parameters())
    best, read = speed(device, dtype), weights / bandwidth(device)
    taken = {name: seconds(known[name], device, rounds) for name in counted}
    return [
        f"| {size.batch} | {name} | {1000 * taken[name]:.2f} ms | {taken[name] / taken['plain']:.2f} | "
        f"{counted[name] / taken[name] / 1e12:.2f} TFLOP/s "
        f"| {max(counted[name] / best, read) / taken[name]:.0%} |"
        for name in counted
    ]


def table(device: torch.device, size: Size, batches: tuple[int, ...], dtype: torch.dtype, rounds: int) -> str:
    """All batch sizes."""
    head = "| batch | route | time | to plain | achieved | of the roofline |\n|---|---|---|---|---|---|"
    rows = [line for batch in batches for line in lines(replace(size, batch=batch), device, dtype, rounds)]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    where = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    on_cpu = where.type == "cpu"
    print(table(where, SMALL if on_cpu else LARGE, BATCHES[:2] if on_cpu else BATCHES, torch.bfloat16, 9))
