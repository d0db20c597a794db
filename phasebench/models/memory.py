"""Memory that runs out: recognising the error, reporting it, and emptying the allocator's caches."""

from __future__ import annotations

import torch

from phasebench.errors import InputError

MESSAGES = (
    "out of memory",  # CUDA's allocator and runtime, HIP, XPU, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # what cuBLAS reports if there is no room for its workspace
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "can't allocate memory",  # on a CPU
    "not enough memory",  # on a CPU, on Windows
)
"""What errors without a class of their own say, if memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that main memory or a device's memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def out_of_memory_error(model: str, error: BaseException) -> InputError:
    """The error if not even a pass over one image fits into memory; ``model`` is the model's name."""
    return InputError(f"{model}: memory runs out with one image: {error}", remedy="max_memory")


def empty_caches() -> None:
    """Free the accelerator's memory that its allocator caches."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
