"""The device and the precision of a model, and whether it fits on one device."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phasebench import processes
from phasebench.errors import InputError
from phasebench.models.quantization import quantization_of, saved_dtype
from phasebench.models.sizes import empty_model, parameters
from phasebench.settings import Settings

WEIGHTS_SHARE = 0.85
"""Share of a device's free memory that weights may fill; the rest is for the pass."""


@dataclass(frozen=True)
class Placement:
    """The placement of a model's weights.

    Attributes:
        device: the device, if the model is not spread.
        dtype: the precision of the weights.
        spread: whether accelerate spreads the weights over all devices, main memory and disk.
        memory: device -> limit of the memory for weights there; None leaves the limits to accelerate.
    """

    device: torch.device
    dtype: torch.dtype
    spread: bool = False
    memory: dict[int | str, str] | None = None

    def load_options(self, cache: Path) -> dict[str, Any]:
        """Arguments for ``from_pretrained``.

        An accelerator gets each tensor as it is read, so that main memory never has a copy of all.

        Weights on disk are named after their parameters and read in every pass. So each model gets an offload
        folder of its own, which lives as long as the process.
        """
        if not self.spread:
            return {} if self.device.type == "cpu" else {"device_map": {"": self.device}}
        (cache / "offload").mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=cache / "offload")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # also when loading fails
        return {"device_map": "auto", "max_memory": self.memory, "offload_folder": folder}


def plan_placement(folder: Path, settings: Settings) -> Placement:
    """The placement of the model in ``folder``, from the settings ``device``, ``dtype`` and ``max_memory``.

    Raises:
        InputError: a setting names a device that does not exist, or the model would have to be spread over
            devices in several processes.
    """
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device, folder)
    memory = parse_memory(settings.max_memory) if settings.max_memory else None
    spread = memory is not None
    if not spread and settings.device == "auto" and device.type == "cuda":
        size = parameters(empty_model(folder, remote_code=settings.remote_code)) * dtype.itemsize
        spread = size > WEIGHTS_SHARE * torch.cuda.mem_get_info(device)[0]
    if spread and processes.count() > 1:
        raise InputError(
            f"{folder} does not fit on one device; a model spread over devices runs in one process, "
            "without accelerate launch"
        )
    return Placement(device, dtype, spread, memory)


def pick_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is the accelerator if there is one, else the CPU.

    When only a kind is named (``cuda``), each process of a launcher takes its own device of that kind.

    Raises:
        InputError: there is no such device.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator and name in ("auto", accelerator.type):
        return _process_device(accelerator)
    try:
        device = torch.empty(0, device="cpu" if name == "auto" else name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name}: {str(error).splitlines()[0]}") from error
    if device.type == "meta":
        raise InputError(f"device {name}: its tensors have no values; name cpu or an accelerator")
    return device


def _process_device(accelerator: torch.device) -> torch.device:
    """This process's own accelerator under a launcher; pytest-xdist's workers take turns.

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
            f"device {accelerator.type}: there is none for process {number} of this machine, which has "
            f"{torch.accelerator.device_count()} {accelerator.type} devices; start one process per device",
            remedy="device",
        )
    torch.accelerator.set_device_index(number)
    return torch.device(accelerator.type, number)


def pick_dtype(name: str, device: torch.device, folder: Path | None = None) -> torch.dtype:
    """The torch dtype called ``name``.

    ``auto`` is the one in which the checkpoint in ``folder`` is saved if that has 16 bits or the weights are
    quantized; otherwise it is float32 on the CPU and bfloat16 elsewhere.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    saved = saved_dtype(folder) if folder is not None else None
    if folder is not None and saved is not None and (saved.itemsize == 2 or quantization_of(folder)):
        return saved
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _is_size(text: str) -> bool:
    from accelerate.utils.modeling import convert_file_size_to_int

    try:
        return bool(convert_file_size_to_int(text) >= 0)
    except ValueError:
        return False


def parse_memory(text: str) -> dict[int | str, str]:
    """The limits in a text such as ``0=20GiB,cpu=64GiB``, in accelerate's form.

    Raises:
        InputError: the text has another form, or names a device twice, or an accelerator that does not exist.
    """
    memory: dict[int | str, str] = {}
    accelerators = torch.accelerator.device_count()
    for part in text.split(","):
        device, equals, size = part.strip().partition("=")
        is_device = device.isdigit() or device in ("cpu", "mps", "disk")
        if not equals or not is_device or not _is_size(size):
            raise InputError(f"max-memory {text}: give DEVICE=SIZE,..., for example 0=20GiB,cpu=64GiB")
        key = int(device) if device.isdigit() else device
        if key in memory:
            raise InputError(f"max-memory {text}: {device} is named twice")
        if isinstance(key, int) and key >= accelerators:
            raise InputError(f"max-memory {text}: accelerator {key} is not among the {accelerators} here")
        memory[key] = size
    return memory
