"""The benchmark's own parts: its routes compute what their names say, and its ratios are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phasebench.measurement.passes import probed_pass
from tests.perf.routes import naive, routes
from tests.perf.timing import Ratio, added_time_ratio, differences, interleaved, ratio, sums
from tests.perf.workloads import Size, Workload, llava


@pytest.fixture(scope="module")
def small() -> Workload:
    return llava(Size(layers=3, width=128, visual=16, text=12, vocabulary=300))


def test_routes_take_turns() -> None:
    calls: list[str] = []
    times = interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"


def test_ratios_are_of_times_in_the_same_round() -> None:
    assert ratio([2.0, 6.0, 8.0], [1.0, 2.0, 1.0]) == Ratio(3.0, 2.0, 8.0)
    assert sums([1.0], [2.0]) == [3.0]
    assert differences([3.0, 1.0], [2.0, 2.0]) == [1.0, -1.0]


def test_the_time_that_a_route_adds_is_compared_with_what_another_adds() -> None:
    times = {"plain": [1.0, 1.0, 9.0], "slow": [7.0, 7.0, 7.0], "fast": [3.0, 3.0, 3.0]}
    assert added_time_ratio(times, "slow", "fast") == "3.0"
    assert added_time_ratio(times, "slow", "plain") == "-"


def test_the_naive_route_gives_the_probes_numbers(small: Workload) -> None:
    curves, (row,) = naive(small, lens=True), probed_pass(small.anatomy, small.inputs)
    assert np.allclose(curves["inter"][:-1], row.curves["inter"][:-1], atol=1e-5)
    assert np.allclose(curves["total"], row.curves["total"][1:], rtol=1e-5)
    assert curves["tokens"].tolist() == [list(ids) for ids in row.tokens]


def test_every_route_runs(small: Workload) -> None:
    for route in routes(small).values():
        route()


def test_the_lens_can_be_left_out(small: Workload) -> None:
    (row,) = probed_pass(small.without("lens"), small.inputs)
    assert not len(row.tokens)
    assert torch.isfinite(torch.as_tensor(row.curves["inter"])).all()
