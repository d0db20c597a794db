"""What work on an accelerator costs: kernels, bytes and waits, by part of the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

NO_KERNEL = {
    "aten::detach", "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::lift_fresh",
    "aten::new_empty", "aten::new_empty_strided", "aten::resize_", "aten::_reshape_alias",
    "aten::_unsafe_view",
}  # fmt: skip
"""Operations that allocate or rename memory."""
KERNELS = {
    "aten::convolution": 2, "aten::cumsum": 2, "aten::equal": 3, "aten::masked_fill": 2,
    "aten::masked_scatter": 4, "aten::nonzero": 5,
}  # fmt: skip
"""Operations that launch another number of kernels than one on CUDA."""


@dataclass
class Costs:
    """The costs of what ran so far.

    Attributes:
        kernels: part of the program -> number of kernels that were launched.
        bytes: part -> bytes that the kernels read and wrote.
        waits: part -> how often the host waited for the device.
        copied: part -> bytes that were copied to the host.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    copied: Counter[str] = field(default_factory=Counter)
    _parts: list[str] = field(default_factory=lambda: ["model"])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs within the ``with`` block as part ``name``."""
        self._parts.append(name)
        try:
            yield
        finally:
            self._parts.pop()

    def launch(self, operation: str, tensors: Sequence[Tensor], kernels: int | None = None) -> None:
        """Count an operation that reads or writes ``tensors``."""
        count = 0 if operation in NO_KERNEL else KERNELS.get(operation, 1) if kernels is None else kernels
        self.kernels[self._parts[-1]] += count
        if count:
            self.bytes[self._parts[-1]] += sum(map(size, tensors))

    def wait(self) -> None:
        """Count that the host waits until the device has finished its work."""
        self.waits[self._parts[-1]] += 1

    def copy_to_host(self, tensor: Tensor) -> None:
        """Count a copy to the host, which waits."""
        self.wait()
        self.launch("copy to host", [tensor])
        self.copied[self._parts[-1]] += size(tensor)

    def clear(self) -> None:
        """Start anew."""
        for counter in (self.kernels, self.bytes, self.waits, self.copied):
            counter.clear()


def size(tensor: Tensor) -> int:
    """The bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()
