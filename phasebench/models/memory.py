"""Memory that runs out: recognising the error, reporting it, and emptying the allocator's caches."""

from __future__ import annotations

import torch
from accelerate.utils.memory import should_reduce_batch_size

from phasebench.errors import InputError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that main memory or a device's memory ran out."""
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def out_of_memory_error(model: str, error: BaseException) -> InputError:
    """The error if not even a pass over one image fits into memory; ``model`` is the model's name."""
    return InputError(f"{model}: memory runs out with one image: {error}", remedy="max_memory")


def empty_caches() -> None:
    """Free the accelerator's memory that its allocator caches."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
