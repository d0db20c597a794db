"""Reading official files and writing a standard folder, with every tensor checked by name and shape.

A conversion is a list of ``Piece``: a tensor of the written model, and the official tensors that it is made
of. ``check_sources`` compares that list with the contents of the files before anything is written. Then
``write_weights`` writes one shard after another, so that only one is in memory.
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
from phasebench.models.checks import summary_of_names

Shape = tuple[int, ...]
SHARD = 1 << 30
"""Elements per written file: 2 GiB in half precision."""
LISTED_NAMES = 4
"""The number of tensors of each kind that an error lists."""


@dataclass(frozen=True)
class Source:
    """The named tensors of one official file or folder; values are read on demand.

    Attributes:
        path: the file or folder, for messages.
        shapes: the shape of each tensor.
        read: a function from a name to its tensor.
        unused: pattern of the names that the model does not need.
    """

    path: Path
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]
    unused: str = ""


@dataclass(frozen=True)
class Part:
    """An official tensor that a piece is made of: the key of its source, its name and shape there."""

    source: str
    name: str
    shape: Shape


@dataclass(frozen=True)
class Piece:
    """One tensor of the written model: ``make`` applied to ``parts``, by default the only part unchanged."""

    name: str
    shape: Shape
    parts: Sequence[Part]
    make: Callable[..., Tensor] = field(default=lambda tensor: tensor)


@contextmanager
def input_errors(path: Path, action: str) -> Iterator[None]:
    """Turn errors of the disk or of safetensors into an InputError: ``path`` cannot be ``action``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be {action}: {error}") from error


def pickle_source(path: Path, *, section: str | None = None, unused: str = "") -> Source:
    """A state dict saved by ``torch.save``, or the one under the key ``section`` of the file.

    The file is mapped and stays on disk if it has torch's zip layout, used since torch 1.6.

    Raises:
        InputError: there is no such file, or it is not a state dict of plain tensors.
    """
    content = _unpickle(path)
    if section is not None:
        if not isinstance(content, Mapping) or section not in content:
            raise InputError(f"{path} has no entry {section!r}; is it the published file?")
        content = content[section]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} contains no table of tensors; is it the published file?")
    tensors: dict[str, Tensor] = dict(content)
    return Source(
        path, {key: tuple(value.shape) for key, value in tensors.items()}, tensors.__getitem__, unused
    )


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with input_errors(path, "read"), path.open("rb") as file:
        first_bytes = file.read(2)
    if not first_bytes.startswith((b"PK", b"\x80")):
        raise InputError(f"{path} was not written by torch: is it a web page or a pointer? Download it again")
    try:
        return _load(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} cannot be read as plain tensors; nothing else is unpickled, because it could run any "
            f"code. If you trust the file, load it yourself and save only its tensors with torch.save. "
            f"({_reason(error)})"
        ) from error
    except Exception as error:  # a damaged file makes torch raise anything
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error


def _load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Detected pickle protocol"
        )  # unreadable files raise an error anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the layout before torch 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """The first line of an exception's message; some of torch's messages fill a page, some are empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def folder_source(path: Path, *, unused: str = "") -> Source:
    """The weights of a folder in the Hugging Face layout: its safetensors, else its ``pytorch_model*.bin``.

    Raises:
        InputError: there is no such folder, there are no weights, or a name is in two files.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    files = sorted(path.glob("*.safetensors"))
    opened = [_safetensors(file) for file in files]
    opened = opened or [pickle_source(file) for file in sorted(path.glob("pytorch_model*.bin"))]
    if not opened:
        raise InputError(f"{path} contains neither *.safetensors nor pytorch_model*.bin")
    owners: dict[str, Source] = {}
    for source in opened:
        if doubled := sorted(owners.keys() & source.shapes):
            raise InputError(
                f"{path}: {summary_of_names(doubled, LISTED_NAMES)} in two files; remove one of the copies"
            )
        owners.update(dict.fromkeys(source.shapes, source))
    shapes = {name: source.shapes[name] for name, source in owners.items()}
    return Source(path, shapes, lambda name: owners[name].read(name), unused)


def single_source(folder: Path, stem: str) -> Source:
    """The tensors of ``<stem>.safetensors`` or ``<stem>.bin`` in a folder; messages name the folder.

    Raises:
        InputError: there is neither.
    """
    safe, pickled = folder / f"{stem}.safetensors", folder / f"{stem}.bin"
    source = _safetensors(safe) if safe.is_file() else pickle_source(pickled)
    return Source(folder, source.shapes, source.read)


def _safetensors(path: Path) -> Source:
    with input_errors(path, "read"):
        file: Any = safe_open(path, framework="pt")
        names = file.keys()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    return Source(path, shapes, file.get_tensor)


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """``name`` after each (pattern, replacement) in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def shapes_on_meta(model_class: Any, config: Any) -> dict[str, Shape]:
    """Names and shapes of the weights that ``model_class(config)`` saves, without any memory for them."""
    with torch.device("meta"):
        model = model_class(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def check_sources(pieces: Sequence[Piece], sources: Mapping[str, Source]) -> None:
    """Check that the sources hold what the pieces are made of, and beyond that only ``Source.unused``.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape; it names the file and the tensors.
    """
    for key, source in sources.items():
        parts = [part for piece in pieces for part in piece.parts if part.source == key]
        expected = {part.name: part.shape for part in parts}
        if len(expected) < len(parts):
            raise ValueError(f"{key}: a tensor is used twice")
        if differences := list(_differences(expected, source)):
            raise InputError(f"{source.path} is not the expected file: {'; '.join(differences)}")


def _differences(expected: Mapping[str, Shape], source: Source) -> Iterator[str]:
    shapes = source.shapes
    if missing := [name for name in expected if name not in shapes]:
        yield f"it lacks {summary_of_names(missing, LISTED_NAMES)}"
    extra = [name for name in shapes if name not in expected and not re.fullmatch(source.unused, name)]
    if extra:
        yield f"it contains the unexpected {summary_of_names(extra, LISTED_NAMES)}"
    for name, shape in expected.items():
        if name in shapes and shapes[name] != shape:
            yield f"{name} has the shape {list(shapes[name])}, not {list(shape)}"


def write_weights(folder: Path, pieces: Sequence[Piece], sources: Mapping[str, Source]) -> None:
    """Write the pieces as safetensors, in files of about ``SHARD`` elements with the usual index.

    Each tensor keeps the precision of its official file.
    """
    shards = list(_shards(pieces))
    weight_map: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(shards, start=1):
        file = (
            f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        )
        tensors = {piece.name: _make(piece, sources) for piece in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, file))
        size += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
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


def _make(piece: Piece, sources: Mapping[str, Source]) -> Tensor:
    tensor = piece.make(*(_read(sources[part.source], part.name) for part in piece.parts)).contiguous()
    if tuple(tensor.shape) != piece.shape:
        raise ValueError(f"{piece.name} was made with the shape {tuple(tensor.shape)}, not {piece.shape}")
    return tensor


def _read(source: Source, name: str) -> Tensor:
    with input_errors(source.path, "read"):
        return source.read(name)
