"""Checking the table of a conversion against its sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from phasebench.errors import InputError
from phasebench.models.converters import official_files


def source(**shapes: official_files.Shape) -> official_files.Source:
    return official_files.Source(
        Path("file.pth"), shapes, lambda name: torch.zeros(shapes[name]), unused="known"
    )


def piece(name: str, *shape: int, make: Callable[..., Tensor] = torch.clone) -> official_files.Piece:
    return official_files.Piece(name, shape, [official_files.Part("it", name, shape)], make)


def test_exactly_the_expected_tensors_pass() -> None:
    official_files.check_sources([piece("a", 2)], {"it": source(a=(2,), known=(9,))})


def test_all_differences_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        official_files.check_sources([piece("a", 2), piece("b", 3)], {"it": source(b=(4,), c=(1,))})
    assert str(caught.value) == (
        "file.pth is not the expected file: it lacks a; it contains the unexpected c; "
        "b has the shape [4], not [3]"
    )


def test_a_tensor_cannot_be_used_twice() -> None:
    with pytest.raises(ValueError, match="used twice"):
        official_files.check_sources([piece("a", 2), piece("a", 2)], {"it": source(a=(2,))})


def test_a_piece_of_another_shape_is_not_written(tmp_path: Path) -> None:
    wrong = piece("a", 2, make=lambda tensor: tensor[:1])
    with pytest.raises(ValueError, match=r"made with the shape \(1,\), not \(2,\)"):
        official_files.write_weights(tmp_path, [wrong], {"it": source(a=(2,))})
