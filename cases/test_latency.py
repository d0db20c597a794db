"""The recorded durations, for pytest-benchmark to keep and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from phasebench.plugin.benchmarks import last_mean, replay
from phasebench.plugin.run import attach, case_of
from phasebench.report.entries import TimingEntry

if TYPE_CHECKING:
    from phasebench.measurement.measure import Measurement


@pytest.mark.latency
@pytest.mark.parametrize("route", ["pass", "plain"])
def test_latency(request: pytest.FixtureRequest, measurement: Measurement, route: str) -> None:
    if not request.config.pluginmanager.has_plugin("benchmark"):
        pytest.skip("pytest-benchmark is not installed")
    if request.config.getoption("codspeed", default=False):
        pytest.skip("pytest-codspeed times by itself and cannot take recorded durations")
    seconds = measurement.seconds if route == "pass" else measurement.plain_seconds
    if not seconds:
        pytest.skip("every image came from the store; --fresh measures and times them again")
    provenance, run_id = measurement.curves.provenance, case_of(request.node).run_id
    extra = {key: provenance[key] for key in ("device", "dtype", "batch_size", "checkpoint", "data")}
    benchmark: Any = request.getfixturevalue(
        "benchmark"
    )  # not a parameter: it would warn when the case is skipped
    replay(benchmark, route, run_id, seconds, extra)
    before = last_mean(request.config, route, run_id, extra)
    attach(request.node, TimingEntry(route=route, seconds=sum(seconds) / len(seconds), stored=before))
