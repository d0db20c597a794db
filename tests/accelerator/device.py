"""Tensors that say they are on ``cuda:N``, and the operations on them.

Their values are ordinary tensors on the CPU, or meta tensors without values; every operation runs on these.
It fails where it would on CUDA because its tensors are on different devices, and its costs are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.accelerator.costs import Costs

aten = torch.ops.aten
COSTS = Costs()
"""The costs of all pretended devices."""
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")
"""Operations whose result the host needs."""
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Operations that take indices in main memory."""
ATTENTION = "aten::scaled_dot_product_attention"


class DeviceTensor(Tensor):
    """A tensor on a pretended device; ``host`` holds its values."""

    host: Tensor

    @staticmethod
    def __new__(cls, values: Tensor, device: torch.device) -> DeviceTensor:
        """Wrap ``values``."""
        tensor: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=0 if values.is_meta else values.storage_offset(),
            dtype=values.dtype,
            device=_numbered(device),
        )
        tensor.host = values
        return tensor

    def __init__(self, values: Tensor, device: torch.device) -> None:
        """All is done in ``__new__``."""

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """The shape and device; values may not exist."""
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    def tolist(self) -> Any:
        """The values, for which the host waits."""
        COSTS.wait()
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation."""
        return run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class Device(TorchDispatchMode):
    """While it is active, tensors are also made and copied on pretended devices."""

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        return run(func, args, kwargs or {})


def run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result of an operation; what is not on a pretended device runs as always."""
    name = func._schema.name
    if name == "aten::to":
        return _to(func, args, kwargs)
    if name != ATTENTION and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        with Device():
            return func.decompose(*args, **kwargs)
    tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    wanted = _numbered(torch.device(kwargs["device"])) if kwargs.get("device") is not None else None
    on_device = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
    if not on_device and (wanted is None or wanted.type != "cuda"):
        return func(*args, **kwargs)
    if name in COPIES:
        return COPIES[name](func, args, kwargs)
    device = _common_device(name, tensors, wanted)
    if name in WAITING or _has_mask(name, args):
        COSTS.wait()
    if any(map(_is_meta, tensors)):
        if name in ("aten::_local_scalar_dense", "aten::equal"):
            return _answer_without_values(name, args[0])
        args = _without_masks(device, name, args)
        if name == "aten::nonzero":
            args = (torch.ones(args[0].shape, dtype=torch.bool),)
    return _run_on(device, func, args, kwargs)


def _to(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``Tensor.to`` in all its forms."""
    names = (argument.name for argument in func._schema.arguments)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    source, other = given["self"], given.get("other")
    dtype = given.get("dtype") or (source if other is None else other).dtype
    device = given.get("device") or (source if other is None else other).device
    device = _numbered(torch.device(device))
    if device == source.device and dtype == source.dtype and not given.get("copy"):
        return source
    return run(aten._to_copy.default, (source,), {"dtype": dtype, "device": device})


def _to_copy(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    (source,) = args
    device = _numbered(torch.device(kwargs.get("device") or source.device))
    copied = func(_values(source), **{name: value for name, value in kwargs.items() if name != "device"})
    if source.device.type == "cuda" and device.type == "cpu":
        COSTS.copy_to_host(copied)
        return torch.zeros(copied.shape, dtype=copied.dtype) if copied.is_meta else copied
    if source.device.type == "cpu":
        COSTS.wait()
    COSTS.launch(func._schema.name, [_values(source), copied])
    return DeviceTensor(copied, device)


def _copy_(func: Any, args: tuple[Any, ...], _: Mapping[str, Any]) -> Any:
    target, source = args[0], args[1]
    if target.device.type != source.device.type and source.dim():
        COSTS.wait()
    if isinstance(target, DeviceTensor) and _is_meta(source):
        target.host = _without_values(target.host)
    elif not (_is_meta(target) or _is_meta(source)):
        func(_values(target), _values(source))
    COSTS.launch(func._schema.name, [_values(source), _values(target)])
    return target


COPIES = {"aten::_to_copy": _to_copy, "aten::copy_": _copy_}
"""Operations between devices."""


def _common_device(name: str, tensors: list[Tensor], wanted: torch.device | None) -> torch.device:
    """The device on which all tensors are.

    Raises:
        RuntimeError: they are on several, as on CUDA.
    """
    others = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.dim()]
    if name in INDEXING and others and isinstance(tensors[0], DeviceTensor):
        COSTS.wait()  # the indices are copied to the device
        others = []
    devices = {tensor.device for tensor in tensors if isinstance(tensor, DeviceTensor)}
    devices |= {tensor.device for tensor in others}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found {names}")
    return next(iter(devices)) if devices else wanted or torch.device("cuda", 0)


def _has_mask(name: str, args: tuple[Any, ...]) -> bool:
    """Whether an operation indexes with a mask: the host waits for the number of its elements."""
    if name not in INDEXING:
        return False
    return any(index is not None and index.dtype == torch.bool for index in args[1])


def _answer_without_values(name: str, tensor: Tensor) -> Any:
    """The answer for tensors without values: whatever is checked is as it should be."""
    COSTS.launch(name, [])
    return True if name == "aten::equal" or tensor.dtype == torch.bool else 0


def _without_masks(device: torch.device, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an operation that indexes, with positions in place of masks; all, if unknown."""
    if not _has_mask(name, args):
        return args
    indices: list[Tensor | None] = []
    for index in args[1]:
        if index is not None and index.dtype == torch.bool:
            mask = torch.ones(index.shape, dtype=torch.bool) if _is_meta(index) else _values(index)
            indices += [DeviceTensor(positions, device) for positions in mask.nonzero().unbind(1)]
        else:
            indices.append(index)
    return args[0], indices, *args[2:]


def _run_on(device: torch.device, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    name, schema = func._schema.name, func._schema
    tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    if is_meta := any(map(_is_meta, tensors)):
        _forget_changed_values(schema, args)
    place = {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
    plain = tree_map_only(Tensor, _without_values if is_meta else _values, (args, {**kwargs, **place}))
    result = func(*plain[0], **plain[1])
    results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if not _is_view(schema):
        COSTS.launch(name, [*map(_values, tensors), *results])
    wrapped = tree_map_only(Tensor, lambda tensor: DeviceTensor(tensor, device), result)
    return return_and_correct_aliasing(func, args, dict(kwargs), wrapped) if schema.is_mutable else wrapped


def _forget_changed_values(schema: Any, args: tuple[Any, ...]) -> None:
    """What an operation in place changes has no values any more."""
    for given, argument in zip(args, schema.arguments, strict=False):
        if isinstance(given, DeviceTensor) and argument.alias_info and argument.alias_info.is_write:
            given.host = _without_values(given.host)


def _is_view(schema: Any) -> bool:
    aliases = [result.alias_info for result in schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _numbered(device: torch.device) -> torch.device:
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def _values(tensor: Tensor) -> Tensor:
    return tensor.host if isinstance(tensor, DeviceTensor) else tensor


def _is_meta(tensor: Tensor) -> bool:
    return _values(tensor).is_meta


def _without_values(tensor: Tensor) -> Tensor:
    values = _values(tensor)
    if values.is_meta:
        return values
    return torch.empty_strided(values.size(), values.stride(), dtype=values.dtype, device="meta")
