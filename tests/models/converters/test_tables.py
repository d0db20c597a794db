"""Tables of tensors, and their checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from phasebench.errors import InputError
from phasebench.models.converters import official


def source(**shapes: official.Shape) -> official.Source:
    return official.Source(Path("file.pth"), shapes, lambda name: torch.zeros(shapes[name]), unused="known")


def piece(name: str, *shape: int, made: Callable[..., Tensor] = torch.clone) -> official.Piece:
    return official.Piece(name, shape, [official.Part("it", name, shape)], made)


def test_exactly_the_expected_tensors_pass() -> None:
    official.verified([piece("a", 2)], {"it": source(a=(2,), known=(9,))})


def test_every_complaint_is_made_at_once() -> None:
    with pytest.raises(InputError) as caught:
        official.verified([piece("a", 2), piece("b", 3)], {"it": source(b=(4,), c=(1,))})
    assert str(caught.value) == (
        "file.pth is not the expected file: it lacks a; it holds the unexpected c; "
        "b has the shape [4], not [3]"
    )


def test_a_tensor_cannot_be_used_twice() -> None:
    with pytest.raises(ValueError, match="used twice"):
        official.verified([piece("a", 2), piece("a", 2)], {"it": source(a=(2,))})


def test_a_piece_of_another_shape_is_not_written(tmp_path: Path) -> None:
    wrong = piece("a", 2, made=lambda tensor: tensor[:1])
    with pytest.raises(ValueError, match=r"made with the shape \(1,\), not \(2,\)"):
        official.write_weights(tmp_path, [wrong], {"it": source(a=(2,))})
