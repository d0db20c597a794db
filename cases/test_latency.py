"""The recorded durations, for pytest-benchmark to keep and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from phasebench.judge.drift.baseline_folders import RUN_ID
from phasebench.plugin.benchmarks import Clock, replay, stored
from phasebench.plugin.reporter import attach

if TYPE_CHECKING:
    from phasebench.measurement.measure import Measurement


@pytest.mark.latency
@pytest.mark.benchmark(timer=Clock.now)
@pytest.mark.parametrize("route", ["pass", "plain"])
def test_latency(request: pytest.FixtureRequest, measurement: Measurement, route: str) -> None:
    if not request.config.pluginmanager.has_plugin("benchmark"):
        pytest.skip("pytest-benchmark is not there")
    seconds = measurement.seconds if route == "pass" else measurement.plain_seconds
    if not seconds:
        pytest.skip("every image came from the store; --fresh measures and times them again")
    provenance = measurement.curves.provenance
    extra = {key: provenance[key] for key in ("device", "dtype", "batch_size", "checkpoint", "data")}
    benchmark: Any = request.getfixturevalue("benchmark")  # it warns where it was asked for in vain
    replay(benchmark, route, request.node.stash[RUN_ID], seconds, extra)
    before = stored(request.config, route, request.node.stash[RUN_ID], extra)
    told = {"route": route, "seconds": sum(seconds) / len(seconds), "stored": before}
    attach(request.node, {"kind": "timing", **told})
