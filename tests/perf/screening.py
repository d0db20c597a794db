"""``python -m tests.perf.screening``: what can spare the lens its matrix product, on real states.

Each candidate bounds every logit from above; what survives is the share of (state, entry) pairs whose bound
reaches the best logit, which would have to be multiplied exactly. Shapes: P states, V entries, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from phasebench.files import cache_folder
from phasebench.measurement import lens, screen
from tests.perf.timing import interleaved, milliseconds, ratio

IMAGES, DIRECTIONS, ROUNDS = 12, (64, 128, 192, 256, 384), 5


@torch.inference_mode()
def real_states(cache: Path, images: int) -> tuple[nn.Linear, list[Tensor]]:
    """smol-llava's head and, per scene, its normed visual states at every layer [L + 1, V, D]."""
    from phasebench.models.anatomy.adapter import dissect
    from tests.conftest import load_tiny
    from tests.perf.routes import visual_rows
    from tests.perf.workloads import Workload, bundled_scenes

    loaded = load_tiny("smol-llava", cache)
    batches = [loaded.inputs([sample.open()]) for sample in bundled_scenes(cache)[:images]]
    anatomy = dissect(loaded.model, batches[0])
    layers = len(anatomy.layers) + 1
    rows = [visual_rows(Workload("smol-llava", anatomy, inputs)) for inputs in batches]
    assert isinstance(anatomy.head, nn.Linear)
    return anatomy.head, [one.unflatten(0, (layers, -1)) for one in rows]


def shares(weight_VD: Tensor, known: list[Tensor], held: list[Tensor]) -> Iterator[tuple[str, float, float]]:
    """Candidate, median and mean share of the entries that survive; directions are learnt from ``known``."""
    rows_PD = torch.cat([one.flatten(0, 1) for one in held])
    best_P1 = (rows_PD @ weight_VD.T).amax(1, keepdim=True) - 1e-3
    there, back = balanced(torch.cat([one.flatten(0, 1) for one in known]), weight_VD)
    for number in DIRECTIONS:
        reach = projected(rows_PD @ there, weight_VD @ back, number)
        yield f"{number} of {len(there)} directions", *survivors(reach, best_P1)
    yield "8 bits", *survivors(rounded(rows_PD, weight_VD), best_P1)
    hadamard = torch.block_diag(*[screen._hadamard(screen.SIDE)] * (len(there) // screen.SIDE))
    yield "8 bits, rotated", *survivors(rounded(rows_PD @ hadamard, weight_VD @ hadamard), best_P1)
    yield "the layer before", *survivors(neighbours(held, weight_VD), best_P1)


def survivors(reach_PV: Tensor, best_P1: Tensor) -> tuple[float, float]:
    share_P = (reach_PV >= best_P1).float().mean(1)
    return float(share_P.median()), float(share_P.mean())


def balanced(rows_PD: Tensor, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Directions A, B with A B' = 1 in which states and entries are spread alike, widest first."""
    root, inverse = _roots(rows_PD.T.double() @ rows_PD.double())
    spread, turn = torch.linalg.eigh(root @ (weight_VD.T.double() @ weight_VD.double()) @ root)
    spread, turn = spread.flip(0).clamp_min(1e-12) ** 0.25, turn.flip(1)
    return (inverse @ turn * spread).float(), (root @ turn / spread).float()


def _roots(square_DD: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(square_DD)
    values = values.clamp_min(float(values.amax()) * 1e-9).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def projected(rows_PD: Tensor, weight_VD: Tensor, number: int) -> Tensor:
    """The logits in the first directions, and the Cauchy-Schwarz bound of the rest."""
    rest = rows_PD[:, number:].norm(dim=1)[:, None] * weight_VD[:, number:].norm(dim=1)
    return rows_PD[:, :number] @ weight_VD[:, :number].T + rest


def rounded(rows_PD: Tensor, weight_VD: Tensor) -> Tensor:
    """The logits in 7 by 8 bits, and the bound of what rounding took."""
    whole_PD, step_P1 = screen._rounded(rows_PD, screen.LARGEST_STATE)
    parts_VD, step_V1 = screen._rounded(weight_VD, screen.LARGEST_WEIGHT)
    near_PD, near_VD = whole_PD * step_P1, parts_VD * step_V1
    lost = (rows_PD - near_PD).norm(dim=1)[:, None] * weight_VD.norm(dim=1)
    return near_PD @ near_VD.T + lost + near_PD.norm(dim=1)[:, None] * (weight_VD - near_VD).norm(dim=1)


def neighbours(held: list[Tensor], weight_VD: Tensor) -> Tensor:
    """The logits at the layer before, known, and the bound of what the states' change can add."""
    before = torch.cat([torch.cat([one[:1], one[:-1]]).flatten(0, 1) for one in held])
    rows_PD = torch.cat([one.flatten(0, 1) for one in held])
    return before @ weight_VD.T + (rows_PD - before).norm(dim=1)[:, None] * weight_VD.norm(dim=1)


def decoders(head: nn.Linear, rows_PD: Tensor) -> dict[str, object]:
    """The ways to the top-1 tokens that are timed."""
    found = screen.screen_of(head, None)

    def whole() -> Tensor:
        decoder = lens.Decoder(None, head)
        decoder.add(rows_PD)
        return torch.cat(decoder.tokens())

    ways = {
        "product and argmax": lambda: head(rows_PD).argmax(-1),
        "product alone": lambda: head(rows_PD),
        "panel by panel": lambda: lens.panelwise(rows_PD, head.weight, None)[0],
    }
    return {**ways, **({"screened, all certified": whole} if found else {})}


@torch.inference_mode()
def section(cache: Path, images: int = IMAGES, rounds: int = ROUNDS) -> str:
    """The tables, for ``docs/performance.md``."""
    head, states = real_states(cache, images)
    lines = ["| bound | entries that survive, median | mean |", "|---|---|---|"]
    known, held = states[: images // 2], states[images // 2 :][:2]
    lines += [
        f"| {name} | {median:.3%} | {mean:.3%} |" for name, median, mean in shares(head.weight, known, held)
    ]
    lines += [
        "",
        "| way to the top-1 token | one thread | of the first | two threads | of the first |",
        "|---|---|---|---|---|",
    ]
    rows_PD = states[-1].flatten(0, 1).contiguous()
    taken = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        taken.append(interleaved(decoders(head, rows_PD), rounds))  # type: ignore[arg-type]
    for name in taken[0]:
        cells = [
            f"{milliseconds(one[name])} | {ratio(one[name], one['product and argmax'])}" for one in taken
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", agreement(head, states)])


def agreement(head: nn.Linear, states: list[Tensor]) -> str:
    """How many states the screen decodes as the whole product does, and how many it leaves to it."""
    found = screen.screen_of(head, None)
    if found is None:
        return "This machine has no exact 8-bit product: nothing is screened."
    same = certain = count = 0
    for rows_PD in (one.flatten(0, 1) for one in states):
        wanted_P = head(rows_PD).argmax(-1)
        token_P, _, certain_P = found.top1(rows_PD)
        if not torch.equal(token_P[certain_P], wanted_P[certain_P]):
            raise AssertionError("a certified answer is wrong")
        decoder = lens.Decoder(None, head)
        decoder.add(rows_PD)
        same += int((torch.cat(decoder.tokens()) == wanted_P).sum())
        certain, count = certain + int(certain_P.sum()), count + len(rows_PD)
    return f"Of {count} states {certain} were certified; {same} of {count} tokens are the whole product's."


if __name__ == "__main__":
    print(section(cache_folder()))
