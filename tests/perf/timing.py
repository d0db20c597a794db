"""Times of several routes taken side by side in one process, and their ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Times = dict[str, list[float]]
"""Route -> seconds, one for each round."""


@dataclass(frozen=True)
class Ratio:
    """The quotient of two times: its median and range over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def interleaved(routes: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of each route, every route once in each round; a first round is not counted.

    The order shifts by one from round to round, so that no route always follows the same route.
    """
    times: Times = {name: [] for name in routes}
    names = list(routes)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            routes[name]()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """The quotients of times taken in the same rounds."""
    quotients = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def sums(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The sums of times taken in the same rounds."""
    return [a + b for a, b in zip(first, second, strict=True)]


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The differences of times taken in the same rounds."""
    return [a - b for a, b in zip(first, second, strict=True)]


def added_time_ratio(times: Times, route: str, reference: str) -> str:
    """The time that ``route`` adds to the plain one, divided by what ``reference`` adds.

    From the medians; "-" if ``reference`` adds nothing.
    """
    medians = {name: statistics.median(times[name]) for name in (route, reference, "plain")}
    reference_time = medians[reference] - medians["plain"]
    return f"{(medians[route] - medians['plain']) / reference_time:.1f}" if reference_time > 0 else "-"


def milliseconds(times: Sequence[float]) -> str:
    """The median, as a table's cell."""
    return f"{1000 * statistics.median(times):.0f} ms"
