"""Names of rows in the store, as digests of everything that decides a row's numbers.

The name of a row's file covers the input tensors. The name of its folder covers the model, precision, device,
versions, and the code that turns input tensors into a packed row. ``DECIDING`` lists that code; a test
follows the imports of a pass and of the controls, and fails at a module that is neither in ``DECIDING`` nor
in ``NEUTRAL``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from phasebench.catalog import FIRST_POSITIONS, OF_CAPTIONS, PARTS
from phasebench.version import __version__

DECIDING = (
    "phasebench.measurement.attention",
    "phasebench.measurement.batches",
    "phasebench.measurement.controls",
    "phasebench.measurement.eight_bits",
    "phasebench.measurement.lens",
    "phasebench.measurement.packing",
    "phasebench.measurement.passes",
    "phasebench.measurement.positions",
    "phasebench.measurement.probe",
    "phasebench.measurement.row_key",
    "phasebench.measurement.row_store",
    "phasebench.measurement.screen",
    "phasebench.measurement.similarity",
    "phasebench.models.anatomy",
)
"""Modules whose code decides a row's numbers; a package stands for all its modules."""
NEUTRAL = {
    "phasebench.catalog": "its deciding values are in the key themselves, so that a new label keeps the rows",
    "phasebench.curves": "provides only the type of an array",
    "phasebench.datasets.sample": "opens an image; the tensors made from it are in the row's name",
    "phasebench.errors": "provides only an exception",
    "phasebench.files": "only writes bytes",
    "phasebench.models.loading": "the checkpoint is in the key, the processor's tensors in the row's name",
    "phasebench.models.memory": "only recognises errors",
    "phasebench.settings": "provides only a type",
    "phasebench.version": "in the key as a value",
}
"""Imported modules that decide no number of a row -> the reason."""
SHARED_MODULES = ("transformers.masking_utils", "transformers.integrations.sdpa_attention")
"""Modules of transformers that take part in every model's pass, besides those that define the model."""


def hashed(*parts: bytes) -> str:
    """Hex digest of ``parts``, 24 characters."""
    state = blake2b(digest_size=12)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def row_names(kind: str, inputs: Mapping[str, Tensor]) -> list[str]:
    """A name for the row of each image in a batch, from all tensors that enter the model.

    The other images of the batch count too, because they change an image's numbers in the last bits.

    Args:
        kind: the change that a control made to the model; empty without a change.
        inputs: the batch's tensors.
    """
    parts = [kind.encode()]
    for key in sorted(inputs):
        tensor = inputs[key]
        parts += [f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), _bytes(tensor)]
    digest = hashed(*parts)
    return [f"{digest}-{index}" for index in range(len(inputs["input_ids"]))]


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy())


@lru_cache(maxsize=1)
def measuring_code() -> str:
    """Digest of the modules in ``DECIDING``, of phasebench's version, and of the curves that a pass gives."""
    return digest_of_modules(Path(__file__).parents[1])


def digest_of_modules(package: Path) -> str:
    """The digest ``measuring_code`` of the copy of phasebench in the folder ``package``."""
    sources = (part for path in _deciding_files(package) for part in (path.name.encode(), path.read_bytes()))
    return hashed(__version__.encode(), repr((PARTS, OF_CAPTIONS, FIRST_POSITIONS)).encode(), *sources)


def _deciding_files(package: Path) -> Iterator[Path]:
    for name in DECIDING:
        path = package.joinpath(*name.split(".")[1:])
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def model_code(model: nn.Module) -> str:
    """Digest of the files that define the model's modules, and of ``SHARED_MODULES``.

    A version number does not identify these files: they may be edited, or be a checkpoint's own.
    """
    names = {type(module).__module__ for module in model.modules()}
    names = {name for name in names if name.partition(".")[0] != "torch"}  # torch's version is in the key
    files = [getattr(sys.modules.get(name), "__file__", None) for name in (*names, *SHARED_MODULES)]
    paths = {Path(file) for file in files if file is not None and Path(file).is_file()}
    return hashed(*sorted(path.name.encode() + path.read_bytes() for path in paths))
