"""Pretends that a build of torch without CUDA has devices: builds the guard, moves models, names parts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasebench.measurement import attention, lens, passes, probe
from phasebench.measurement.positions import Positions
from tests.accelerator.device import COSTS, Device, DeviceTensor, aten, run

PARTS: tuple[tuple[Any, str, str], ...] = (
    (probe.Probe, "_collect", "similarity"),
    (probe.Probe, "_compare", "similarity"),
    (probe.Probe, "_attend", "attention"),
    (probe.Probe, "_project", "attention"),
    (attention, "attention_curves", "attention"),
    (probe.Probe, "_see_states", "lens"),
    (lens.Decoder, "_by_layer", "lens"),
    (passes, "_host_arrays", "results"),
    (passes, "_host_norms", "results"),
    (passes, "_row", "results"),
    (Positions, "from_inputs", "positions"),
)
"""Functions of a pass, and the part of the costs to which what they run belongs."""


@cache
def load_guard(folder: Path) -> None:
    """Build torch's fake guard for CUDA and load it; skips a test if there is no compiler."""
    if torch.backends.cuda.is_built():
        pytest.skip("this torch has CUDA itself: the pretended device needs a build without")
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler to build the pretended device")
    source, library = Path(__file__).with_name("guard.cpp"), folder / "guard.so"
    root = Path(torch.__file__).parent
    options = ["-shared", "-fPIC", "-std=c++20", f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10"]
    command = [compiler, str(source), *options, "-o", str(library)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    torch.ops.load_library(str(library))


@contextmanager
def pretended_devices(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the ``with`` block, tensors can be moved to ``cuda:N``, and costs are counted by part."""
    native = F.scaled_dot_product_attention
    patch.setattr(torch.cuda, "_lazy_init", lambda: None)
    patch.setattr(torch.version, "cuda", "pretended")
    patch.setattr(torch.cuda, "is_initialized", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda _=None: "pretended")
    patch.setattr(torch.accelerator, "synchronize", lambda _=None: COSTS.wait())
    patch.setattr(F, "scaled_dot_product_attention", _attention(native))
    patch.setattr(torch, "tensor", _tensor(torch.tensor))
    for owner, name, part in PARTS:
        patch.setattr(owner, name, _counted(getattr(owner, name), part))
    COSTS.clear()
    with Device():
        yield


def _attention(native: Any) -> Any:
    """One kernel, as the fused ones of CUDA; on a CPU it would be taken apart."""

    @wraps(native)
    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        args = query, key, value, attn_mask, dropout_p, is_causal
        if isinstance(query, DeviceTensor):
            function = aten.scaled_dot_product_attention.default
            return run(function, args, {"scale": scale, "enable_gqa": enable_gqa})
        return native(*args, scale=scale, enable_gqa=enable_gqa)

    return attention


def _tensor(native: Any) -> Any:
    """``torch.tensor`` makes its tensor on the device itself, without an operation that could be caught."""

    @wraps(native)
    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        made: Tensor = native(data, **kwargs)
        return made if device is None else made.to(device)

    return tensor


def _counted(function: Any, part: str) -> Any:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        with COSTS.part(part):
            return function(*args, **kwargs)

    return counted


def move(module: nn.Module, device: str = "cuda:0") -> None:
    """Move a module's parameters and buffers to a pretended device, in place."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                moved = DeviceTensor(_plain(parameter.detach()), torch.device(device))
                part._parameters[name] = nn.Parameter(moved, requires_grad=False)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = DeviceTensor(_plain(buffer), torch.device(device))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.host if isinstance(tensor, DeviceTensor) else tensor
