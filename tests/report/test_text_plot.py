"""Curves in text: every layer in its column, every boundary marked."""

from __future__ import annotations

import pytest

from phasebench.report.figure_model import Boundary
from phasebench.report.text_plot import plot, sparkline
from tests.support.synthetic import FOUR

NAMES = ("I rise", "II fall", "III rise", "IV fall")
ENDS = (Boundary(3, 3, 4), Boundary(10, 9, 11), Boundary(33, 33, 34))
VALUES = [float(value) for value in FOUR]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([0, 1], "▁█"),
        ([1, 0.5, 0], "█▅▁"),
        ([3, 3, 3], "▁▁▁"),
        ([None, 0, 7], " ▁█"),
        ([None, None], ""),
        ([], ""),
    ],
)
def test_sparklines(values: list[float | None], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_a_sparkline_is_as_long_as_its_curve_and_the_marks_of_its_phases() -> None:
    assert len(sparkline(VALUES)) == 41
    drawn = sparkline(VALUES, (3, 10, 33))
    assert [len(part) for part in drawn.split("│")] == [4, 7, 23, 7]
    assert drawn.replace("│", "") == sparkline(VALUES)


@pytest.mark.parametrize(
    ("ends", "drawn"), [((0,), "▁│▃█"), ((1,), "▁▃│█"), ((2,), "▁▃█│"), ((0, 1), "▁│▃│█")]
)
def test_a_mark_follows_the_last_layer_of_a_phase(ends: tuple[int, ...], drawn: str) -> None:
    assert sparkline([0, 2, 7], ends) == drawn


@pytest.mark.parametrize("width", [10, 30, 43, 44, 200])
def test_a_sparkline_keeps_to_its_width_with_its_marks(width: int) -> None:
    drawn = sparkline(VALUES, (3, 10, 33), width)
    assert len(drawn) == min(width, 44)
    assert drawn.count("│") == 3


def test_layers_that_share_a_block_are_drawn_as_their_mean() -> None:
    assert sparkline([0, 0, 1, 3, 4, 4], width=3) == "▁▅█"
    assert sparkline([None, None, 0, None, 4, 4], width=3) == " ▁█"


def test_the_plot_is_a_frame_of_width_and_height() -> None:
    lines = plot(VALUES, width=82, height=9)
    assert len(lines) == 12
    assert all(len(line) >= 84 for line in lines[:-1])
    assert lines[0] == f"┌{'─' * 82}┐"
    assert lines[10] == f"└{'─' * 82}┘"


def test_a_rise_goes_from_below_left_to_above_right() -> None:
    inside = [line[1:42] for line in plot([float(layer) for layer in range(41)], width=41)[1:9]]
    first = [line.index(next(char for char in line if char != " ")) for line in inside]
    assert first == sorted(first, reverse=True)
    assert inside[0].endswith(tuple("▀▘▝▞▗▄▌▐▟▙▛▜█▚▖"))
    assert inside[-1][0] != " "


@pytest.mark.parametrize("width", [82, 68, 41, 30])
def test_every_boundary_is_marked_in_the_plot_and_under_it(width: int) -> None:
    *frame, layers, names = plot(VALUES, NAMES, ENDS, width=width)
    for end in ENDS:
        column = 1 + int((end.layer + 0.5) * width / 41)
        assert "│" in {line[column] for line in frame[1:-1]}
        word = next(word for word in layers.split() if word == str(end.layer))
        assert abs(layers.index(word) - column) <= 5
    assert [name for name in NAMES if name in names]


def test_layers_and_phases_are_named_under_the_plot() -> None:
    *_, layers, names = plot(VALUES, NAMES, ENDS, width=82)
    assert layers.split("  ")[0].strip() in ("", "0")
    assert all(str(end) in layers for end in ENDS)
    assert [names.index(name) for name in NAMES] == sorted(names.index(name) for name in NAMES)


def test_without_room_for_the_intervals_only_the_layers_are_named() -> None:
    near = (Boundary(3, 2, 5), Boundary(6, 5, 8), Boundary(9, 8, 12))
    *_, layers, _ = plot(VALUES, NAMES, near, width=41)
    assert layers.split() == ["0", "3", "6", "9", "40"]


def test_without_phases_only_the_first_and_last_layer_are_named() -> None:
    assert plot(VALUES)[-1].split() == ["0", "40"]


@pytest.mark.parametrize("values", [[], [None, None]])
def test_a_curve_without_values_is_not_plotted(values: list[float | None]) -> None:
    assert plot(values) == []


def test_a_curve_without_a_value_at_the_first_layer_is_plotted_from_the_second_on() -> None:
    lines = plot([None, 1.0, 2.0, 3.0], width=40)
    assert all(line[1:11].strip() == "" for line in lines[1:9])
    assert any(line[11:21].strip() for line in lines[1:9])


def test_a_flat_curve_can_be_plotted() -> None:
    assert any("▄" in line or "▀" in line for line in plot([0.5] * 5))
