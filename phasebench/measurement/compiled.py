"""Models that were compiled with torch.compile are measured as they were before.

The probe's hooks make every pass another program: compiled, each would be compiled anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

NOTE = "the model is compiled (torch.compile); it was measured and timed without"


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile made the model, or one of its modules was compiled in place."""
    in_place: Any = (module._compiled_call_impl for module in model.modules())
    return hasattr(model, "_orig_mod") or any(call is not None for call in in_place)


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Within the ``with`` block, a compiled model runs as it was before."""
    if not is_compiled(model):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
