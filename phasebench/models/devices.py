"""Which device, which precision, and whether one device is enough."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from phasebench import processes
from phasebench.errors import InputError
from phasebench.models.sizes import empty_model, parameters

ROOM = 0.85
"""Share of a device's free memory that weights may take; the rest is for the pass."""


@dataclass(frozen=True)
class Placement:
    """Where a model's weights go.

    Attributes:
        device: the one device, where one is enough.
        dtype: their precision.
        spread: accelerate spreads them over all devices, main memory and disk.
        memory: at most so much on each device; None leaves it to accelerate.
    """

    device: torch.device
    dtype: torch.dtype
    spread: bool = False
    memory: dict[int | str, str] | None = None

    def options(self, cache: Path) -> dict[str, Any]:
        """What ``from_pretrained`` is told.

        What it puts on disk goes by the parameters' names and is read in every pass: each model has a folder
        of its own, for as long as the process lives.
        """
        if not self.spread:
            return {}
        (cache / "offload").mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=cache / "offload")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # also where loading fails
        return {"device_map": "auto", "max_memory": self.memory, "offload_folder": folder}


def plan_placement(
    folder: Path, device: str, dtype: str, max_memory: str | None, *, remote_code: bool = False
) -> Placement:
    """Where the model in ``folder`` goes, from ``--device``, ``--dtype`` and ``--max-memory``.

    Raises:
        InputError: an option names nothing that is there.
    """
    one = pick_device(device)
    precision = pick_dtype(dtype, one)
    memory = parse_memory(max_memory) if max_memory else None
    spread = memory is not None
    if not spread and device == "auto" and one.type == "cuda":
        size = parameters(empty_model(folder, remote_code=remote_code)) * precision.itemsize
        spread = size > ROOM * torch.cuda.mem_get_info(one)[0]
    if spread and processes.count() > 1:
        raise InputError(
            f"{folder} does not fit on one device; a model spread over devices runs in one process, "
            "without accelerate launch"
        )
    return Placement(one, precision, spread, memory)


def lacks_memory(error: BaseException) -> bool:
    """Whether that is what an error means, of main memory or of a device."""
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def no_room(what: str, error: BaseException) -> InputError:
    """What is said of a model of which not even one image's pass fits."""
    return InputError(
        f"{what}: memory runs out with one image: {error}; spread the model with --max-memory, or see --dtype"
    )


def empty_caches() -> None:
    """Give back what the accelerator's allocator keeps of freed tensors."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def pick_device(device: str) -> torch.device:
    """The torch device that ``--device`` names; ``auto`` is the accelerator, if there is one.

    Where the kind alone is named, each of a launcher's processes takes one of its own.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator and device in ("auto", accelerator.type):
        return _own(accelerator)
    try:
        found = torch.empty(0, device="cpu" if device == "auto" else device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
    if found.type == "meta":
        raise InputError(f"--device {device}: it holds no numbers; name cpu or an accelerator")
    return found


def _own(accelerator: torch.device) -> torch.device:
    """Of a launcher's processes each has an accelerator of its own; pytest-xdist's workers take turns.

    Raises:
        InputError: there are more processes on this machine than accelerators.
    """
    worker = processes.worker()
    if worker is not None:
        return torch.device(accelerator.type, worker % torch.accelerator.device_count())
    number = processes.local_rank()
    if number is None:
        return accelerator
    if number >= torch.accelerator.device_count():
        raise InputError(
            f"--device: process {number} of this machine, which has {torch.accelerator.device_count()} "
            f"{accelerator.type} devices; start one process a device, or name one with --device"
        )
    torch.accelerator.set_device_index(number)
    return torch.device(accelerator.type, number)


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision that ``--dtype`` names; ``auto`` is bfloat16 off the CPU, float32 on it."""
    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    found: torch.dtype = getattr(torch, dtype)
    return found


def _is_size(text: str) -> bool:
    from accelerate.utils.modeling import convert_file_size_to_int

    try:
        return bool(convert_file_size_to_int(text) >= 0)
    except ValueError:
        return False


def parse_memory(text: str) -> dict[int | str, str]:
    """``0=20GiB,cpu=64GiB`` as accelerate wants it.

    Raises:
        InputError: it is not of that form, names a device twice, or an accelerator that is not there.
    """
    memory: dict[int | str, str] = {}
    accelerators = torch.accelerator.device_count()
    for part in text.split(","):
        device, equals, size = part.strip().partition("=")
        known = device.isdigit() or device in ("cpu", "mps", "disk")
        if not equals or not known or not _is_size(size):
            raise InputError(f"--max-memory {text}: say DEVICE=SIZE,..., for example 0=20GiB,cpu=64GiB")
        key = int(device) if device.isdigit() else device
        if key in memory:
            raise InputError(f"--max-memory {text}: {device} is named twice")
        if isinstance(key, int) and key >= accelerators:
            raise InputError(f"--max-memory {text}: accelerator {key} is not among the {accelerators} here")
        memory[key] = size
    return memory
