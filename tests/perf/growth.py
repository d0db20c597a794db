"""How cost grows: one size of the llava is changed at a time."""

from __future__ import annotations

from dataclasses import replace

from phasebench.measurement.passes import probed_pass
from tests.perf.routes import routes
from tests.perf.timing import differences, interleaved, milliseconds, ratio
from tests.perf.workloads import Size, Workload, llava

BASE = Size(layers=4, width=256, visual=144, text=40, vocabulary=16000)
SIZES = {
    "layers": (
        (2, 4, 8),
        "All three grow at the same rate: each layer adds one attention row, one set of sums and one lens "
        "product.",
    ),
    "visual": (
        (64, 144, 576),
        "The curves cost width² operations per position, the lens width x vocabulary per image token; only "
        "the forward pass has a part that grows with the square of the positions.",
    ),
    "text": ((20, 40, 160), "Text positions cost the lens nothing: only image tokens are decoded."),
    "vocabulary": ((4000, 16000, 64000), "Only the lens grows: the curves do not depend on the vocabulary."),
    "batch": ((1, 2, 4), "All three grow in proportion to the batch, apart from the fixed cost of a call."),
}


def line(work: Workload, rounds: int) -> str:
    """A row's cells: times of the plain forward pass, the curves and the lens, and two ratios to plain."""
    timed_routes = routes(work)
    times = interleaved({name: timed_routes[name] for name in ("plain", "curves", "whole")}, rounds)
    curves = differences(times["curves"], times["plain"])
    lens = differences(times["whole"], times["curves"])
    ratios = ratio(times["curves"], times["plain"]), ratio(times["whole"], times["plain"])
    cells = (milliseconds(times["plain"]), milliseconds(curves), milliseconds(lens), *map(str, ratios))
    return " | ".join(cells)


def section(rounds: int = 3) -> str:
    """The tables for ``docs/performance.md``."""
    lines = [
        f"One thread, a llava of {BASE.layers} layers, width {BASE.width}, {BASE.visual} image and "
        f"{BASE.text} text tokens, vocabulary {BASE.vocabulary}; one of these changed at a time.",
        "",
        "| | plain forward | curves add | lens adds | curves / plain | with lens / plain |",
        "|---|---|---|---|---|---|",
    ]
    for name, (values, why) in SIZES.items():
        for value in values:
            lines.append(f"| {name} {value} | {line(llava(replace(BASE, **{name: value})), rounds)} |")  # noqa: PERF401
        lines.append(f"| | {why} | | | | |")
    return "\n".join([*lines, images(rounds)])


def images(rounds: int) -> str:
    """Successive passes: the time for one image does not depend on how many there are."""
    work = llava(BASE)
    counts = (1, 4, 16)
    passes = {
        str(count): lambda count=count: [probed_pass(work.anatomy, work.inputs) for _ in range(count)]
        for count in counts
    }
    times = interleaved(passes, rounds)
    cells = [
        f"{count}: {milliseconds([seconds / count for seconds in times[str(count)]])}" for count in counts
    ]
    times_text = f"\nImages, time for each with the probe: {', '.join(cells)}."
    return f"{times_text} Between images, only their rows stay in memory."
