"""The same routes on an accelerator: ``python -m tests.perf.gpu [cuda | cpu]`` prints a table.

The table gives each route's time at several batch sizes in bf16 (from CUDA events), its operations per
second, and which share of the device's limit it reaches. The limit is the device's fastest matrix product
(``phasebench.models.plan.speed``), or its memory's speed where reading the weights takes longer.
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
COPY_ELEMENTS = 1 << 26
"""Elements of the copy that times the memory."""


def seconds(route: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of a route; a CUDA device times it by events."""
    route()
    times = []
    for _ in range(rounds):
        if device.type != "cuda":
            began = time.perf_counter()
            route()
            times.append(time.perf_counter() - began)
            continue
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        route()
        end.record()
        torch.cuda.synchronize(device)
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def bandwidth(device: torch.device, rounds: int = 5) -> float:
    """Bytes per second of a copy, which reads and writes each byte once."""
    source = torch.zeros(COPY_ELEMENTS if device.type == "cuda" else COPY_ELEMENTS >> 4, device=device)
    target = torch.empty_like(source)
    return (
        2.0 * source.numel() * source.element_size() / seconds(lambda: target.copy_(source), device, rounds)
    )


def operations(work: Workload) -> dict[str, float]:
    """The operations of each route for the whole batch, as ``--plan`` counts them."""
    costs = plan(work.anatomy.model, None, Placement(work.inputs["input_ids"].device, torch.bfloat16))
    batch = len(work.inputs["input_ids"])
    return {
        "plain": batch * costs.pass_operations,
        "curves": batch * (costs.pass_operations + costs.attention_operations),
        "whole": batch * (costs.pass_operations + costs.attention_operations + costs.lens_operations),
        "bare": batch * costs.lens_operations,
    }


def lines(size: Size, device: torch.device, dtype: torch.dtype, rounds: int) -> list[str]:
    """The table's lines for one batch size, one for each route."""
    work = llava(size, str(device), dtype)
    timed_routes, counts = routes(work), operations(work)
    weight_bytes = sum(p.numel() * p.element_size() for p in work.anatomy.model.parameters())
    top_speed, read_time = speed(device, dtype), weight_bytes / bandwidth(device)
    times = {name: seconds(timed_routes[name], device, rounds) for name in counts}
    return [
        f"| {size.batch} | {name} | {1000 * times[name]:.2f} ms | {times[name] / times['plain']:.2f} | "
        f"{counts[name] / times[name] / 1e12:.2f} TFLOP/s "
        f"| {max(counts[name] / top_speed, read_time) / times[name]:.0%} |"
        for name in counts
    ]


def table(device: torch.device, size: Size, batches: tuple[int, ...], dtype: torch.dtype, rounds: int) -> str:
    """The table for all batch sizes."""
    head = "| batch | route | time | to plain | achieved | of the roofline |\n|---|---|---|---|---|---|"
    rows = [line for batch in batches for line in lines(replace(size, batch=batch), device, dtype, rounds)]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    chosen_device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    on_cpu = chosen_device.type == "cpu"
    print(
        table(
            chosen_device, SMALL if on_cpu else LARGE, BATCHES[:2] if on_cpu else BATCHES, torch.bfloat16, 9
        )
    )
