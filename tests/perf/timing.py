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
    """Median and range over the rounds of a quotient of two times."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def interleaved(routes: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of each route, one call after the other in every round, after a call that is not counted.

    The order turns by one from round to round, so that no route always follows the same one.
    """
    times: Times = {name: [] for name in routes}
    names = list(routes)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            routes[name]()
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """The quotients of times taken in the same rounds."""
    found = [one / other for one, other in zip(over, under, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def plus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The sums of times taken in the same rounds."""
    return [a + b for a, b in zip(one, other, strict=True)]


def minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The differences of times taken in the same rounds."""
    return [a - b for a, b in zip(one, other, strict=True)]


def share_of_added(times: Times, one: str, other: str) -> str:
    """How many times what ``other`` adds to the plain route ``one`` adds, of medians; - if none."""
    middle = {name: statistics.median(times[name]) for name in (one, other, "plain")}
    added = middle[other] - middle["plain"]
    return f"{(middle[one] - middle['plain']) / added:.1f}" if added > 0 else "-"


def milliseconds(times: Sequence[float]) -> str:
    """The median, as it stands in a table."""
    return f"{1000 * statistics.median(times):.0f} ms"
