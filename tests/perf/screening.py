"""``python -m tests.perf.screening``: bounds that can spare the lens its matrix product, on real states.

Each method bounds every logit from above. A (state, entry) pair survives if its bound reaches the state's
best logit: such pairs would have to be multiplied exactly. Shapes: P states, V entries, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from phasebench.files import cache_folder
from phasebench.measurement import eight_bits, lens, screen
from tests.perf.timing import interleaved, milliseconds, ratio

IMAGES, DIRECTIONS, ROUNDS = 12, (64, 128, 192, 256, 384), 5


@torch.inference_mode()
def real_states(cache: Path, images: int) -> tuple[nn.Linear, list[Tensor]]:
    """smol-llava's head and, per scene, all layers' visual states after the final norm [L + 1, V, D]."""
    from phasebench.models.anatomy.adapter import dissect
    from tests.perf.routes import visual_rows
    from tests.perf.workloads import Workload, bundled_scenes
    from tests.support.checkpoints import load_tiny

    loaded = load_tiny("smol-llava", cache)
    batches = [loaded.inputs([sample.open()]) for sample in bundled_scenes(cache)[:images]]
    anatomy = dissect(loaded.model, batches[0])
    layers = len(anatomy.layers) + 1
    rows = [visual_rows(Workload("smol-llava", anatomy, inputs)) for inputs in batches]
    assert isinstance(anatomy.head, nn.Linear)
    return anatomy.head, [rows_PD.unflatten(0, (layers, -1)) for rows_PD in rows]


def shares(
    weight_VD: Tensor, training_states: list[Tensor], test_states: list[Tensor]
) -> Iterator[tuple[str, float, float]]:
    """For each bound its name, and the median and mean share of the entries that survive it."""
    rows_PD = all_rows(test_states)
    best_P1 = (rows_PD @ weight_VD.T).amax(1, keepdim=True) - 1e-3
    row_directions, weight_directions = balanced_directions(all_rows(training_states), weight_VD)
    width = len(row_directions)
    for number in DIRECTIONS:
        bound_PV = bound_by_directions(rows_PD @ row_directions, weight_VD @ weight_directions, number)
        yield f"{number} of {width} directions", *surviving_shares(bound_PV, best_P1)
    yield "8 bits", *surviving_shares(bound_by_rounding(rows_PD, weight_VD), best_P1)
    blocks = [eight_bits._hadamard(eight_bits.SIDE)] * (width // eight_bits.SIDE)
    hadamard = torch.block_diag(*blocks)
    rotated_bound_PV = bound_by_rounding(rows_PD @ hadamard, weight_VD @ hadamard)
    yield "8 bits, rotated", *surviving_shares(rotated_bound_PV, best_P1)
    yield "the layer before", *surviving_shares(bound_by_layer_before(test_states, weight_VD), best_P1)


def all_rows(states: list[Tensor]) -> Tensor:
    """The states of all images and layers, one in each row [P, D]."""
    return torch.cat([image_states.flatten(0, 1) for image_states in states])


def surviving_shares(bound_PV: Tensor, best_P1: Tensor) -> tuple[float, float]:
    """Median and mean over the states of the share of entries whose bound reaches the best logit."""
    share_P = (bound_PV >= best_P1).float().mean(1)
    return float(share_P.median()), float(share_P.mean())


def balanced_directions(rows_PD: Tensor, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Directions A, B with A B' = 1 in which states and entries have equal variances, largest first."""
    root, inverse = _roots(rows_PD.T.double() @ rows_PD.double())
    spread, turn = torch.linalg.eigh(root @ (weight_VD.T.double() @ weight_VD.double()) @ root)
    spread, turn = spread.flip(0).clamp_min(1e-12) ** 0.25, turn.flip(1)
    return (inverse @ turn * spread).float(), (root @ turn / spread).float()


def _roots(square_DD: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a positive matrix, and the root's inverse."""
    values, vectors = torch.linalg.eigh(square_DD)
    values = values.clamp_min(float(values.amax()) * 1e-9).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def bound_by_directions(rows_PD: Tensor, weight_VD: Tensor, number: int) -> Tensor:
    """The logits in the first directions plus the Cauchy-Schwarz bound of the rest."""
    rest = rows_PD[:, number:].norm(dim=1)[:, None] * weight_VD[:, number:].norm(dim=1)
    return rows_PD[:, :number] @ weight_VD[:, :number].T + rest


def bound_by_rounding(rows_PD: Tensor, weight_VD: Tensor) -> Tensor:
    """The logits in 7 by 8 bits plus the bound of the rounding errors."""
    rounded_PD, step_P1 = eight_bits._round(rows_PD, eight_bits.LARGEST_STATE)
    rounded_VD, step_V1 = eight_bits._round(weight_VD, eight_bits.LARGEST_WEIGHT)
    near_PD, near_VD = rounded_PD * step_P1, rounded_VD * step_V1
    row_error = (rows_PD - near_PD).norm(dim=1)[:, None] * weight_VD.norm(dim=1)
    weight_error = near_PD.norm(dim=1)[:, None] * (weight_VD - near_VD).norm(dim=1)
    return near_PD @ near_VD.T + row_error + weight_error


def bound_by_layer_before(states: list[Tensor], weight_VD: Tensor) -> Tensor:
    """The logits at the layer before plus the bound of the states' change; the first layer has no other."""
    before_PD = all_rows([torch.cat([layers[:1], layers[:-1]]) for layers in states])
    change_P1 = (all_rows(states) - before_PD).norm(dim=1)[:, None]
    return before_PD @ weight_VD.T + change_P1 * weight_VD.norm(dim=1)


def decoders(head: nn.Linear, rows_PD: Tensor) -> dict[str, object]:
    """The ways to the top-1 tokens that are timed."""

    def decode() -> Tensor:
        decoder = lens.Decoder(None, head)
        decoder.add(rows_PD)
        return decoder.tokens().flatten()

    ways = {
        "product and argmax": lambda: head(rows_PD).argmax(-1),
        "product alone": lambda: head(rows_PD),
        "panel by panel": lambda: screen.top1_by_panels(rows_PD, head.weight, None)[0],
    }
    has_screen = screen.screen_of_head(head, None) is not None
    return {**ways, **({"screened, all certified": decode} if has_screen else {})}


@torch.inference_mode()
def section(cache: Path, images: int = IMAGES, rounds: int = ROUNDS) -> str:
    """The tables for ``docs/performance.md``."""
    head, states = real_states(cache, images)
    lines = ["| bound | entries that survive, median | mean |", "|---|---|---|"]
    training_states, test_states = states[: images // 2], states[images // 2 :][:2]
    lines += [
        f"| {name} | {median:.3%} | {mean:.3%} |"
        for name, median, mean in shares(head.weight, training_states, test_states)
    ]
    lines += [
        "",
        "| way to the top-1 token | one thread | of the first | two threads | of the first |",
        "|---|---|---|---|---|",
    ]
    rows_PD = states[-1].flatten(0, 1).contiguous()
    times_by_threads = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times_by_threads.append(interleaved(decoders(head, rows_PD), rounds))  # type: ignore[arg-type]
    for name in times_by_threads[0]:
        cells = [
            f"{milliseconds(times[name])} | {ratio(times[name], times['product and argmax'])}"
            for times in times_by_threads
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", agreement(head, states)])


def agreement(head: nn.Linear, states: list[Tensor]) -> str:
    """A sentence: how many states the screen certifies, and how many tokens are the whole product's.

    Raises:
        AssertionError: a certified token is not the whole product's.
    """
    head_screen = screen.screen_of_head(head, None)
    if head_screen is None:
        return "This machine has no exact 8-bit product: nothing is screened."
    same = certain = count = 0
    for rows_PD in (image_states.flatten(0, 1) for image_states in states):
        expected_P = head(rows_PD).argmax(-1)
        token_P, _, certain_P = head_screen.top1(rows_PD)
        if not torch.equal(token_P[certain_P], expected_P[certain_P]):
            raise AssertionError("a certified token is not the whole product's")
        decoder = lens.Decoder(None, head)
        decoder.add(rows_PD)
        same += int((decoder.tokens().flatten() == expected_P).sum())
        certain, count = certain + int(certain_P.sum()), count + len(rows_PD)
    return f"Of {count} states {certain} were certified; {same} of {count} tokens equal the whole product's."


if __name__ == "__main__":
    print(section(cache_folder()))
