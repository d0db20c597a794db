"""Official files in, a standard folder out: every tensor by its exact name and shape, one at a time.

A conversion is a list of ``Piece``: a tensor of the written model and the official tensors it is made of.
``verified`` compares that list with what the files hold before anything is written; ``write_weights`` then
streams, so that no more than one shard is in memory.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from phasebench.errors import InputError

Shape = tuple[int, ...]
SHARD = 1 << 30
"""Elements per written file: 2 GiB in half precision."""
NAMED = 4
"""How many tensors of a kind an error lists."""


@dataclass(frozen=True)
class Source:
    """The named tensors of one official file or folder; values are read on demand.

    Attributes:
        path: the file or folder, for messages.
        shapes: the shape of each tensor.
        read: the tensor of a name.
        unused: pattern of the names that are known to be there and that the model does not need.
    """

    path: Path
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]
    unused: str = ""


@dataclass(frozen=True)
class Part:
    """An official tensor that a piece is made of: which source, its name and shape there."""

    source: str
    name: str
    shape: Shape


@dataclass(frozen=True)
class Piece:
    """One tensor of the written model: ``make`` of its ``parts``, unchanged if there is one part."""

    name: str
    shape: Shape
    parts: Sequence[Part]
    make: Callable[..., Tensor] = field(default=lambda tensor: tensor)


@contextmanager
def refused(path: Path, what: str) -> Iterator[None]:
    """What the disk or safetensors refuse within is told of this path: that it cannot be ``what``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be {what}: {error}") from error


def pickled(path: Path, *, section: str | None = None, unused: str = "") -> Source:
    """A state dict saved by ``torch.save``, under the key ``section`` of the file if one is named.

    The file stays on disk (mapped) if it has the present zip layout.

    Raises:
        InputError: there is no such file, it holds more than plain tensors and containers, or no state dict.
    """
    content = _unpickled(path)
    if section is not None:
        if not isinstance(content, Mapping) or section not in content:
            raise InputError(f"{path} has no entry {section!r}; is it the published file?")
        content = content[section]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no table of tensors; is it the published file?")
    tensors: dict[str, Tensor] = dict(content)
    return Source(
        path, {key: tuple(value.shape) for key, value in tensors.items()}, tensors.__getitem__, unused
    )


def _unpickled(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with refused(path, "read"), path.open("rb") as file:
        begins = file.read(2)
    if not begins.startswith((b"PK", b"\x80")):
        raise InputError(f"{path} was not written by torch: a page or a pointer in its place? Fetch it again")
    try:
        return _loaded(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} cannot be read as plain tensors, and nothing else is unpickled, for it could run any "
            f"code. If you trust the file, load it yourself and save its tensors alone with torch.save. "
            f"({_reason(error)})"
        ) from error
    except Exception as error:  # a damaged file makes torch raise anything
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # what cannot be read is refused anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the layout before torch 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """The first line of what an exception says; some of torch's say a page, some nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def hf_folder(path: Path, *, unused: str = "") -> Source:
    """The weights of a folder in the Hugging Face layout: its safetensors, else its ``pytorch_model*.bin``.

    Raises:
        InputError: there is no such folder, there are no weights, or a name is in two files.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    files = sorted(path.glob("*.safetensors"))
    opened = [_safetensors(file) for file in files]
    opened = opened or [pickled(file) for file in sorted(path.glob("pytorch_model*.bin"))]
    if not opened:
        raise InputError(f"{path} holds neither *.safetensors nor pytorch_model*.bin")
    owners: dict[str, Source] = {}
    for source in opened:
        if twice := sorted(owners.keys() & source.shapes):
            raise InputError(f"{path}: {_listed(twice)} in two files; keep the weights once")
        owners.update(dict.fromkeys(source.shapes, source))
    shapes = {name: source.shapes[name] for name, source in owners.items()}
    return Source(path, shapes, lambda name: owners[name].read(name), unused)


def _safetensors(path: Path) -> Source:
    with refused(path, "read"):
        file: Any = safe_open(path, framework="pt")
        names = file.keys()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    return Source(path, shapes, file.get_tensor)


def renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """``name`` after each (pattern, replacement) in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def shapes_on_meta(model_class: Any, config: Any) -> dict[str, Shape]:
    """Names and shapes of the weights that ``model_class(config)`` saves, without any memory for them."""
    with torch.device("meta"):
        model = model_class(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def verified(pieces: Sequence[Piece], sources: Mapping[str, Source]) -> None:
    """Check that the sources hold what the pieces are made of, and nothing else but known leftovers.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape; it names the file and the tensors.
    """
    for key, source in sources.items():
        parts = [part for piece in pieces for part in piece.parts if part.source == key]
        wanted = {part.name: part.shape for part in parts}
        if len(wanted) < len(parts):
            raise ValueError(f"{key}: a tensor is used twice")
        if complaints := list(_complaints(wanted, source)):
            raise InputError(f"{source.path} is not the expected file: {'; '.join(complaints)}")


def _complaints(wanted: Mapping[str, Shape], source: Source) -> Iterator[str]:
    found = source.shapes
    if missing := [name for name in wanted if name not in found]:
        yield f"it lacks {_listed(missing)}"
    extra = [name for name in found if name not in wanted and not re.fullmatch(source.unused, name)]
    if extra:
        yield f"it holds the unexpected {_listed(extra)}"
    for name, shape in wanted.items():
        if name in found and found[name] != shape:
            yield f"{name} has the shape {list(found[name])}, not {list(shape)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def write_weights(folder: Path, pieces: Sequence[Piece], sources: Mapping[str, Source]) -> None:
    """Write the pieces as safetensors, in files of about ``SHARD`` elements with the usual index.

    Each tensor keeps the precision of its official file.
    """
    shards = list(_shards(pieces))
    places: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(shards, start=1):
        file = (
            f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        )
        tensors = {piece.name: _made(piece, sources) for piece in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(tensors, file))
        size += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    shard: list[Piece] = []
    elements = 0
    for piece in pieces:
        count = torch.Size(piece.shape).numel()
        if shard and elements + count > SHARD:
            yield shard
            shard, elements = [], 0
        shard.append(piece)
        elements += count
    yield shard


def _made(piece: Piece, sources: Mapping[str, Source]) -> Tensor:
    made = piece.make(*(_read(sources[part.source], part.name) for part in piece.parts)).contiguous()
    if tuple(made.shape) != piece.shape:
        raise ValueError(f"{piece.name} was made with the shape {tuple(made.shape)}, not {piece.shape}")
    return made


def _read(source: Source, name: str) -> Tensor:
    with refused(source.path, "read"):
        return source.read(name)
