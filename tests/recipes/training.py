"""A seeded, resumable optimisation loop and its learning-rate schedule, shared by the recipes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
import torch.distributed as dist
from torch import Tensor, nn

Loss = tuple[Tensor, dict[str, float]]
"""The loss to minimise, and metrics for the log."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to ``rate``, then a cosine down to a tenth of it."""

    steps: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.01

    def factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def train(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int], Loss],
    schedule: Schedule,
    folder: Path,
    every: int = 100,
    pace: Callable[[str], float] | None = None,
) -> None:
    """Minimise ``loss_of(step)`` over the parameters of ``model`` that require a gradient.

    ``loss_of`` draws its batch from the step's number, so that a run resumed from ``folder`` gets the same
    batches as one without interruption. Progress (means since the last report) is printed and appended to
    ``folder/name.log``. ``pace`` maps a parameter's name to its share of the rate.
    """
    parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
    groups = [{"params": [value], "pace": pace(key) if pace else 1.0} for key, value in parameters.items()]
    optimizer = torch.optim.AdamW(
        groups, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    checkpoint = folder / f"{name}.train.pt"
    step, seconds = _resume(checkpoint, parameters, optimizer, schedule.steps)
    start, recent = time.perf_counter() - seconds, list[dict[str, float]]()
    while step < schedule.steps:
        for group in optimizer.param_groups:
            group["lr"] = group["pace"] * schedule.rate * schedule.factor(step)
        loss, metrics = loss_of(step * world + rank)
        recent.append(metrics)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _average(parameters.values(), world)
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        step += 1
        if rank == 0 and (step % every == 0 or step == schedule.steps):
            seconds = time.perf_counter() - start
            _save(checkpoint, parameters, optimizer, step, seconds)
            means = {key: fmean(row[key] for row in recent) for key in metrics}
            _log(folder / f"{name}.log", {"step": step, "seconds": round(seconds), **means})
            recent.clear()
    if world > 1:
        dist.barrier()


def _average(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Average the gradients of several processes (``torchrun``), each of which has its own batches."""
    if world == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world


def _resume(
    checkpoint: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, steps: int
) -> tuple[int, float]:
    if not checkpoint.exists():
        return 0, 0.0
    state = torch.load(checkpoint, weights_only=True)
    with torch.no_grad():
        for key, value in parameters.items():
            value.copy_(state["weights"][key])
    if state["step"] < steps:
        optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def _save(
    checkpoint: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    state = {
        "weights": {key: value.detach() for key, value in parameters.items()},
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)


def _log(path: Path, row: dict[str, float]) -> None:
    line = json.dumps({key: round(value, 4) for key, value in row.items()})
    print(line, flush=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
