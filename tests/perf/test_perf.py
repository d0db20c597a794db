"""The benchmark's own machinery: what it times is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phasebench.measurement.passes import probed_pass
from tests.perf.routes import naive, routes
from tests.perf.timing import Ratio, interleaved, minus, plus, ratio, share_of_added
from tests.perf.workloads import Size, Workload, llava


@pytest.fixture(scope="module")
def small() -> Workload:
    return llava(Size(layers=3, width=128, visual=16, text=12, vocabulary=300))


def test_routes_take_turns() -> None:
    seen: list[str] = []
    times = interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(seen) == "abc" + "bca" + "cab" + "abc"


def test_a_ratio_is_of_times_of_the_same_round() -> None:
    assert ratio([2.0, 6.0, 8.0], [1.0, 2.0, 1.0]) == Ratio(3.0, 2.0, 8.0)
    assert plus([1.0], [2.0]) == [3.0]
    assert minus([3.0, 1.0], [2.0, 2.0]) == [1.0, -1.0]


def test_what_a_route_adds_is_told_in_what_another_adds() -> None:
    times = {"plain": [1.0, 1.0, 9.0], "one": [7.0, 7.0, 7.0], "other": [3.0, 3.0, 3.0]}
    assert share_of_added(times, "one", "other") == "3.0"
    assert share_of_added(times, "one", "plain") == "-"


def test_the_naive_route_gives_the_probes_numbers(small: Workload) -> None:
    found, (row,) = naive(small, lens=True), probed_pass(small.anatomy, small.inputs)
    assert np.allclose(found["inter"][:-1], row.curves["inter"][:-1], atol=1e-5)
    assert np.allclose(found["total"], row.curves["total"][1:], rtol=1e-5)
    assert found["tokens"].tolist() == [list(ids) for ids in row.tokens]


def test_every_route_runs(small: Workload) -> None:
    for route in routes(small).values():
        route()


def test_parts_can_be_taken_out(small: Workload) -> None:
    (row,) = probed_pass(small.without("lens"), small.inputs)
    assert not len(row.tokens)
    assert torch.isfinite(torch.as_tensor(row.curves["inter"])).all()
