"""Phases: the dynamic programme against scipy and against curves with known turning points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from phasebench.curves import Array
from phasebench.judge.findings.phases import (
    FALL,
    FOUR,
    RISE,
    _prefix_errors,
    find_phases,
    fit_pattern,
    heights,
    isotonic_errors,
)
from tests.support.synthetic import FOUR as FOUR_PHASES
from tests.support.synthetic import RISING, through


@pytest.mark.parametrize("seed", range(5))
def test_the_errors_are_those_of_scipys_isotonic_regression(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=25)
    errors = _prefix_errors(values)
    for end in range(len(values)):
        prefix = values[: end + 1]
        fitted = isotonic_regression(prefix).x
        assert errors[end] == pytest.approx(((fitted - prefix) ** 2).sum(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_boundaries_are_the_best_of_all(seed: int) -> None:
    curve = np.random.default_rng(seed).normal(size=9).cumsum()
    tables = isotonic_errors(curve)
    best = min(
        sum(tables[sign][a, b] for sign, a, b in zip(FOUR, (0, *cut), (*cut, 8), strict=True))
        for cut in itertools.combinations(range(1, 8), 3)
    )
    assert fit_pattern(curve, FOUR).error == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("curve", "pattern", "boundaries"),
    [
        (FOUR_PHASES, FOUR, (3, 10, 33)),
        (RISING, (RISE,), ()),
        (-RISING, (FALL,), ()),
        (through({0: 0, 20: 1, 40: 0}), (RISE, FALL), (20,)),
        (through({0: 1, 15: 0, 40: 1}), (FALL, RISE), (15,)),
        (through({0: 0, 3: 0.4, 10: 0.2, 40: 0.8}), (RISE, FALL, RISE), (3, 10)),
        (through({0: 0, 5: 1, 10: 0, 20: 1, 30: 0, 40: 1}), (RISE, FALL, RISE, FALL, RISE), (5, 10, 20, 30)),
    ],
)
def test_the_true_turning_points_are_detected(
    curve: Array, pattern: tuple[int, ...], boundaries: tuple[int, ...]
) -> None:
    phases = find_phases(curve)
    assert phases.pattern == pattern
    assert phases.boundaries == boundaries
    assert phases.error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_small_noise_moves_the_boundaries_little(seed: int) -> None:
    noise = 0.004 * np.random.default_rng(seed).standard_normal(41)
    phases = find_phases(FOUR_PHASES + noise)
    assert phases.pattern == FOUR
    assert np.allclose(phases.boundaries, (3, 10, 33), atol=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_rise_is_a_rise(seed: int) -> None:
    noise = 0.01 * np.random.default_rng(seed).standard_normal(41)
    assert find_phases(RISING + noise).pattern == (RISE,)


def test_a_flat_curve_has_one_interval() -> None:
    assert len(find_phases(np.full(31, 0.3)).pattern) == 1


def test_a_drop_in_the_very_last_layer_is_a_phase() -> None:
    curve = through({0: 0, 3: 0.4, 10: 0.3, 39: 0.7, 40: 0.2})
    assert find_phases(curve).boundaries == (3, 10, 39)


def test_scale_and_offset_do_not_matter() -> None:
    assert find_phases(FOUR_PHASES).boundaries == find_phases(1e-3 * FOUR_PHASES + 5).boundaries


def test_heights_are_signed_by_the_pattern() -> None:
    assert np.allclose(heights(FOUR_PHASES, find_phases(FOUR_PHASES)), [0.4, 0.1, 0.4, 0.2])
    flipped = fit_pattern(FOUR_PHASES, FOUR)
    assert (heights(-FOUR_PHASES, flipped) < 0).all()


def test_phases_are_written_in_words() -> None:
    assert str(find_phases(FOUR_PHASES)) == "rise, fall, rise, fall"


@pytest.mark.parametrize("seed", range(5))
def test_rounding_gives_no_phases(seed: int) -> None:
    rounding = 2e-7 * np.random.default_rng(seed).standard_normal(41)
    assert len(find_phases(0.3 + rounding).pattern) == 1
    assert find_phases(FOUR_PHASES + rounding).boundaries == (3, 10, 33)
